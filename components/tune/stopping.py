"""The rules of ``sweep.stop``: a sweep is over when its metric is reached, or its time is up."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from components.tune.records import Ending
from seaway.artifacts import read_json, write_json
from seaway.config import Sweep
from seaway.config.base import duration
from seaway.metrics import LOWER_IS_BETTER

KEEP_S = 5.0  # so much of its time a killed sweep may forget
_FILE = "elapsed.json"


class Reached:
    """An ``Ending``: the best epoch so far is as good as ``value``."""

    def __init__(self, metric: str, value: float) -> None:
        self._metric, self._value = metric, value
        self._sign = -1.0 if metric in LOWER_IS_BETTER else 1.0

    def must_end(self, records: Sequence[Mapping[str, Any]]) -> str:
        found = [e[self._metric] for r in records if r["status"] != "failed" for e in r["epochs"]]
        if not any(self._sign * value >= self._sign * self._value for value in found):
            return ""
        best = max(found, key=lambda value: self._sign * value)
        return f"sweep.stop.value is reached: {self._metric} {best:.4g}, wanted {self._value:g}"


class After:
    """An ``Ending``: the sweep has run for ``limit`` seconds, earlier runs of it counted and breaks between them not.

    How long is kept in ``folder``, at the latest each KEEP_S seconds that it is asked.
    """

    def __init__(self, limit: float, text: str, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._text, self._file, self._clock = limit, text, folder / _FILE, clock
        self._since = self._kept = clock()
        self._before = 0.0
        with suppress(OSError, ValueError, KeyError, TypeError):
            self._before = float(read_json(self._file)["seconds"])

    def must_end(self, records: Sequence[Mapping[str, Any]]) -> str:
        now = self._clock()
        seconds = self._before + now - self._since
        over = seconds >= self._limit
        if over or now - self._kept >= KEEP_S:
            self._kept = now
            with suppress(OSError):  # a full disk is told by those who keep results
                write_json(self._file, {"seconds": seconds})
        return f"sweep.stop.after is over: {self._text}" if over else ""


def stopping(sweep: Sweep, folder: Path) -> tuple[Ending, ...]:
    """The endings that ``sweep.stop`` asks for; ``folder`` is the sweep's own."""
    made: list[Ending] = []
    if sweep.stop.value is not None:
        made.append(Reached(sweep.metric, sweep.stop.value))
    if sweep.stop.after is not None:
        made.append(After(duration(sweep.stop.after).total_seconds(), sweep.stop.after, folder))
    return tuple(made)
