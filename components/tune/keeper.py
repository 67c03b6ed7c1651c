"""Keeps a sweep going: begins the process that drives it, and another one when that ends without a result.

Ray ends the process that uses it once it has lost Ray's servers for a minute, whatever that process is about. So
the sweep runs in one that may end (components.tune.driver), and goes on from the trials' checkpoints in the next.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from components.ray.place import check_writable
from seaway import progress
from seaway.config import Config, project_root
from seaway.errors import SeawayError

RESTARTS = 3  # without an epoch between them
PATIENCE_S = 600.0  # for a Ray that is somebody else's to come back
RETRY_S = 5.0
GRACE_S = 30.0  # for running epochs to end, once somebody wants an end


def keep_going(config: Config, dataset: Path, out: Path, resume: bool) -> dict[str, Any]:
    """The sweep's summary. Raises SeawayError with its words, or when it ends again and again without an epoch."""
    check_writable(config.home / "sweeps", None)
    left, since, known = RESTARTS, time.monotonic(), False
    while True:
        with _Driver(config, dataset, out, resume) as driver:
            end = driver.wait()
        resume = resume or driver.begun
        known = known or driver.begun
        if driver.epochs:
            left = RESTARTS
        if driver.begun:
            since = time.monotonic()
        if "summary" in end:
            return end["summary"]
        if "away" in end and known and time.monotonic() - since < PATIENCE_S:
            progress.say(f"sweep: Ray at {config.ray.address} does not answer; trying again")
            time.sleep(RETRY_S)
            continue
        if text := end.get("error") or end.get("away"):
            raise SeawayError(text)
        if "unexpected" in end:
            raise RuntimeError(f"the sweep's process failed:\n{end['unexpected']}")
        left -= 1
        if not left:
            raise SeawayError(
                f"the sweep's Ray has ended {RESTARTS} times without an epoch between ({_what(end)}): is the machine "
                "out of memory, or does somebody end its processes? What was trained is kept; the same command goes on"
            )
        progress.say(f"sweep: {_what(end)}; going on from the last epochs")


def _what(end: dict[str, Any]) -> str:
    if "lost" in end:
        return f"{end['lost']} of Ray has ended"
    code = end["exit"]
    how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
    return f"the process that drives it has ended {how}"


class _Driver:
    """The process ``python -m components.tune.driver`` and what it says. It ends when this process does."""

    def __init__(self, config: Config, dataset: Path, out: Path, resume: bool) -> None:
        self.begun, self.epochs = False, 0
        self._said, theirs = os.pipe()
        paths = os.pathsep.join(filter(None, (str(project_root()), os.environ.get("PYTHONPATH"))))
        # in a session of its own: Ctrl-C is this process's to handle
        self._process = subprocess.Popen(
            [sys.executable, "-m", "components.tune.driver", str(theirs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(theirs,),
            start_new_session=True,
            text=True,
            env={**os.environ, "PYTHONPATH": paths},
        )
        os.close(theirs)
        job = {"dataset": str(dataset.absolute()), "out": str(out.absolute()), "resume": resume}
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({**job, "config": config.model_dump(mode="json")}) + "\n")
            self._process.stdin.flush()  # and stays open: its end is the sign that this process has ended
        self._lines = threading.Thread(target=self._forward, daemon=True)
        self._lines.start()

    def __enter__(self) -> _Driver:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._lines.join(5)
        os.close(self._said)

    def wait(self) -> dict[str, Any]:
        """What it said last: "summary", "error", "away", "unexpected", "lost"; or "exit", the code it ended with.

        Ctrl-C, or what the command line makes of SIGTERM: the sweep ends in order, and KeyboardInterrupt is raised.
        """
        end: dict[str, Any] = {}
        try:
            end = self._listen()
        except KeyboardInterrupt:
            progress.say("sweep: stopping; running epochs may end (again to leave them)")
            self._process.terminate()
            timer = threading.Timer(GRACE_S, self._process.kill)
            timer.start()
            with suppress(KeyboardInterrupt):
                end = self._listen()
            timer.cancel()
            progress.say(f"sweep: {end.get('error') or 'stopped; its epochs are kept, the same command goes on'}")
            raise
        return end or {"exit": self._process.wait()}

    def _listen(self) -> dict[str, Any]:
        end: dict[str, Any] = {}
        with os.fdopen(os.dup(self._said)) as said:
            for line in said:
                with suppress(ValueError):  # cut short by its end
                    message = json.loads(line)
                    self.begun |= "begun" in message
                    self.epochs += "epoch" in message
                    end = {k: v for k, v in message.items() if k not in ("begun", "epoch")} or end
        return end

    def _forward(self) -> None:
        """Its standard output is this process's, which may be redirected."""
        for line in self._process.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
