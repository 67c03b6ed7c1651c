"""Decision log and ledger under faults: an append may not begin, end half-way, or be its writer's last act.

The real files and the real code are used; only what comes before and after an append is ours.
"""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from seaway import ledger
from serving.rollout.decisions import DecisionLog
from tests.robustness.client import Client, Killed

_acting = threading.local()


@contextmanager
def acting(client: Client) -> Iterator[None]:
    """Appends of this thread are this client's."""
    before = getattr(_acting, "client", None)
    _acting.client = client
    try:
        yield
    finally:
        _acting.client = before


@contextmanager
def under_faults() -> Iterator[None]:
    with (
        patch.object(DecisionLog, "append", _harmed(DecisionLog.append, "log", lambda log: log.path)),
        patch.object(ledger, "append", _harmed(ledger.append, "ledger", Path)),
        patch.object(fcntl, "flock", _flock),
    ):
        yield


def _harmed(append: Callable[..., Any], kind: str, path_of: Callable[[Any], Path]) -> Callable[..., Any]:
    def run(target: Any, *args: Any, **more: Any) -> Any:
        client: Client | None = getattr(_acting, "client", None)
        if client is None:
            return append(target, *args, **more)
        client.faults.turns.pause()
        moment = client.faults.write_fault(kind, client.actor)
        if moment == "before":
            raise Killed
        result = append(target, *args, **more)
        path = path_of(target)
        last = path.read_bytes().rstrip(b"\n").rsplit(b"\n", 1)[-1]
        if moment == "torn":
            keep = int(client.faults.draw.integers(len(last)))
            with path.open("r+b") as stream:
                stream.truncate(path.stat().st_size - len(last) - 1 + keep)
        client.world.note_lines("logged" if kind == "log" else "ledger", path, client.actor)
        if moment == "torn":
            raise Killed
        if moment == "after":
            raise Killed
        client.faults.turns.pause()
        return result

    return run


_real = fcntl.flock


def _flock(stream: Any, operation: int) -> None:
    """Waits by letting others move: a lock's holder may be an actor that does not have the baton."""
    client: Client | None = getattr(_acting, "client", None)
    if client is None or operation != fcntl.LOCK_EX:
        _real(stream, operation)
        return None
    for _ in range(10_000):
        try:
            return _real(stream, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            client.faults.turns.pause()
    raise AssertionError("a lock is held for ever")
