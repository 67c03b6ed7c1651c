"""Work that must not outlive the process that asked for it, whatever lies between the two.

The owner holds a lock on a file; the kernel releases it when the owner ends, even by kill -9. A worker
waits for that lock in a thread and, once it gets it, ends itself and all that it started. Unlike the
kernel's parent-death signal this works through shells in between, and no process id can be mistaken.
"""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from seaway.errors import SeawayError

OWNER_VARIABLE = "SEAWAY_OWNER"  # path of the owner's lock file, inherited by every worker


@contextmanager
def hold(path: Path, busy: str = "", patience: float = 5.0) -> Iterator[None]:
    """Hold the lock on ``path`` while the block runs; SeawayError when another process keeps holding it.

    ``patience``: seconds to wait for one that was just killed and is about to end. ``busy``: what to say
    instead of the general words.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + patience
    with path.open("a+") as stream:
        while not _locked(stream):
            if time.monotonic() > deadline:
                stream.seek(0)
                holder = stream.read().strip() or "unknown"
                general = f"another run is using {path.parent}; wait for it, stop it, or use another home"
                raise SeawayError(f"{busy or general} (process {holder})")
            time.sleep(0.05)
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield


def _locked(stream: IO[str]) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def end_with_owner() -> None:
    """End this process and its descendants when the owner named by SEAWAY_OWNER ends; else a no-op."""
    path = os.environ.get(OWNER_VARIABLE)
    if path:
        threading.Thread(target=_wait_and_end, args=(path,), daemon=True, name="owner-watch").start()


def _wait_and_end(path: str) -> None:
    try:
        with open(path) as stream:
            fcntl.flock(stream, fcntl.LOCK_SH)  # blocks, without the GIL, as long as the owner lives
    except FileNotFoundError:
        pass  # the owner's folder is gone, and so is the owner
    kill_descendants()
    os.kill(os.getpid(), signal.SIGKILL)


def kill_descendants() -> None:
    """Kill every process below this one, such as the ones that a sweep started."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue
