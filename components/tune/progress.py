"""What a person sees of a running sweep: each ten seconds a line, with the record from which a terminal draws more."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from typing import Any, TextIO

from components.tune.snapshot import Sight, line, snapshot
from seaway import progress
from seaway.metrics import LOWER_IS_BETTER

PLAIN_SECONDS = 10.0
LIVE_SECONDS = 1.0


class Progress:
    """Is asked after each result, as an ``Ending`` that never ends anything; while open, tells what it knows.

    Inside a step that is an event ``progress`` with ``text`` and ``sweep``, the snapshot; a ``stream`` of its own, or
    standard error outside of steps, gets the text; its ``show``, where it has one, the snapshot.
    """

    def __init__(self, sight: Sight, stream: TextIO | None = None) -> None:
        self._sight, self._stream = sight, stream
        self._sign = -1.0 if sight.metric in LOWER_IS_BETTER else 1.0
        self._started, self._first = time.monotonic(), 0.0
        self._records: Sequence[dict[str, Any]] = ()
        self._curve: list[float] = []
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="sweep-progress")

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()
        self._tell()

    def must_end(self, records: Sequence[dict[str, Any]]) -> str:
        best = max((r["objective"] for r in records if r["epochs"] and r["status"] != "failed"), default=None)
        if best is not None:
            self._first = self._first or time.monotonic()
            self._curve.append(self._sign * best)
        self._records = records
        return ""

    def seen(self) -> dict[str, Any]:
        """The snapshot of now."""
        now = time.monotonic()
        working = now - self._first if self._first else 0.0
        return snapshot(self._sight, self._records, self._curve, now - self._started, working)

    def _run(self) -> None:
        live = bool(os.environ.get(progress.LIVE_VARIABLE))
        while not self._closed.wait(self._pause() if live else PLAIN_SECONDS):
            self._tell()

    def _pause(self) -> float:
        """A second; more in a sweep of hours, whose snapshots all stand in the run's log."""
        return min(max(LIVE_SECONDS, (time.monotonic() - self._started) / 600), PLAIN_SECONDS)

    def _tell(self) -> None:
        seen = self.seen()
        if self._stream is None:
            progress.say(line(seen), sweep=seen)
        else:
            self._stream.write(line(seen) + "\n")
            self._stream.flush()
            if show := getattr(self._stream, "show", None):
                show(seen)
