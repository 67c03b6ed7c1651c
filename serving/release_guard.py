"""A release is alone in its home, and ends in order when it is interrupted."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seaway import alive
from seaway.errors import SeawayError


class Stop(threading.Event):
    gentle = False  # whether someone looks at the event; otherwise the wait in progress is broken off


@contextmanager
def interrupts() -> Iterator[Stop]:
    """SIGINT and SIGTERM set the event, in the main thread; elsewhere the caller has to."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(*_: object) -> None:
        stop.set()
        if not stop.gentle:
            raise SeawayError("the release was stopped while it was starting; run it again")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """One release at a time in a home; the lock goes with the process that holds it."""
    busy = f"a release is under way in {home}; `seaway release status` shows it"
    with alive.hold(home / "releases" / ".lock", busy):
        yield
