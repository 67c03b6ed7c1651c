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


def kill_after(home: Path, seconds: float) -> None:
    """Start a demo, SIGKILL make after ``seconds``, and wait until its descendants are gone."""
    demo = start(home)
    seen: dict[int, psutil.Process] = {}
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and demo.poll() is None:
        for child in psutil.Process(demo.pid).children(recursive=True):
            seen[child.pid] = child
        time.sleep(0.1)
    if demo.poll() is None:
        demo.send_signal(signal.SIGKILL)
    demo.wait()
    _, alive = psutil.wait_procs(seen.values(), timeout=30)
    leftover = [(p.pid, p.cmdline()) for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert not leftover, f"killed after {seconds:.1f} s, still running: {leftover}"


def finish(home: Path) -> None:
    demo = start(home)
    assert demo.wait(timeout=600) == 0, (home.parent / "demo.log").read_text()[-4000:]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_random_kills(tmp_path):
    rng = random.Random(int(os.environ.get("SEAWAY_SEED", "20261122")))
    home = tmp_path / "home"
    for _ in range(10):
        kill_after(home, rng.uniform(1, 120))
    finish(home)
