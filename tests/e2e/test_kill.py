"""kill -9 at any moment: the next run completes, nothing is cleaned by hand, no process is left."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from seaway.config import project_root


def start(home: Path) -> subprocess.Popen:
    log = (home.parent / "demo.log").open("ab")
    command = ["make", "demo", "SCALE=small", f"ARGS=--home {home}"]
    outer = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.Popen(command, cwd=project_root(), env=outer, stdout=log, stderr=log, stdin=subprocess.DEVNULL)


def killed(home: Path, seconds: float) -> bool:
    """Start a demo, SIGKILL make after ``seconds``, wait until all it started is gone; False if it had ended before."""
    demo = start(home)
    seen: dict[int, psutil.Process] = {}
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and demo.poll() is None:
        for child in psutil.Process(demo.pid).children(recursive=True):
            seen[child.pid] = child
        time.sleep(0.1)
    running = demo.poll() is None
    if running:
        demo.send_signal(signal.SIGKILL)
    assert demo.wait() in (0, -signal.SIGKILL), (home.parent / "demo.log").read_text()[-4000:]
    _, alive = psutil.wait_procs(seen.values(), timeout=30)
    leftover = [(p.pid, p.cmdline()) for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert not leftover, f"killed after {seconds:.1f} s, still running: {leftover}"
    return running


def finish(home: Path) -> None:
    demo = start(home)
    assert demo.wait(timeout=600) == 0, (home.parent / "demo.log").read_text()[-4000:]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_random_kills(tmp_path):
    rng = random.Random(int(os.environ.get("SEAWAY_SEED", "20261122")))
    home, kills = tmp_path / "home-0", 0
    while kills < 10:
        if killed(home, rng.uniform(1, 60)):
            kills += 1
        else:  # it had all that it needed: a new one, so that the next kill too meets work
            home = tmp_path / f"home-{kills}"
    finish(home)
