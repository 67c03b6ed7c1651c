"""Cumulative counters turned into blocks: how many requests and unwanted outcomes since the last look.

Counters are raw and cumulative, and there is a cursor for every predictor and signal: the value up to
which they were used. The same reading twice therefore adds nothing, a lost reading is made up for by
the next one, and nobody's ``rate()`` comes between. What is not a count (missing, NaN, negative, not
whole) is left out with a reason, never taken for zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# signal -> (field that counts requests, field that counts the unwanted ones)
SIGNALS = {
    "errors": ("requests", "errors"),
    "latency": ("requests", "slow"),
    "decisions": ("answered", "decisions"),
}


@dataclass(frozen=True)
class Arm:
    """What one predictor's signals gained since the cursor."""

    gained: dict[str, tuple[int, int]] = field(default_factory=dict)  # signal -> (requests, unwanted)
    cursor: dict[str, list[int]] = field(default_factory=dict)  # signal -> [requests, unwanted, times seen lower]
    problems: tuple[str, ...] = ()


def reading(counters: Any, slo_ms: float | None) -> dict[str, tuple[Any, Any]]:
    """One predictor's cumulative (requests, unwanted) by signal, unchecked; from a record or an object."""

    def get(name: str) -> Any:
        return counters.get(name) if isinstance(counters, Mapping) else getattr(counters, name, None)

    values = {}
    for signal, (total, unwanted) in SIGNALS.items():
        if signal == "latency":
            if slo_ms is None:
                continue
            edges = get("slow")
            edge = {float(k): v for k, v in edges.items()}.get(float(slo_ms)) if isinstance(edges, Mapping) else None
            values[signal] = (get(total), edge)
        else:
            values[signal] = (get(total), get(unwanted))
    return values


def advance(cursor: Mapping[str, Any], now: Mapping[str, tuple[Any, Any]]) -> Arm:
    """The gain of one predictor from ``cursor`` to the reading ``now``, and the new cursor. Never raises.

    - first reading of a signal: it becomes the cursor, nothing is gained;
    - lower than the cursor twice in a row: the counter was reset, the reading becomes the cursor
      (once may be a failed scrape that reads 0: the cursor stays);
    - more unwanted outcomes than requests: the two were read at different instants; the cursor stays
      and the next reading takes all.
    """
    gained: dict[str, tuple[int, int]] = {}
    moved: dict[str, list[int]] = {}
    problems = []
    for signal in SIGNALS:
        old = _cursor(cursor.get(signal))
        if signal not in now:
            continue
        n, k = (_count(v) for v in now[signal])
        if n is None or k is None:
            problems.append(f"{signal}: no usable count ({now[signal][0]!r}, {now[signal][1]!r})")
        elif old is None:
            moved[signal] = [n, k, 0]
            continue
        elif n < old[0] or k < old[1]:
            problems.append(f"{signal}: the counter went from {old[0]} to {n}")
            if old[2]:
                moved[signal] = [n, k, 0]
                continue
            old = [old[0], old[1], 1]
        elif k - old[1] > n - old[0]:
            problems.append(f"{signal}: {k - old[1]} outcomes of {n - old[0]} requests; waiting for the rest")
        else:
            gained[signal] = (n - old[0], k - old[1])
            old = [n, k, 0]
        if old is not None:
            moved[signal] = old
    return Arm(gained, moved, tuple(problems))


def _count(value: Any) -> int | None:
    """A whole number >= 0 below 2**63, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, float) and (not math.isfinite(value) or value != int(value)):
        return None
    return int(value) if 0 <= value < 2**63 else None


def _cursor(value: Any) -> list[int] | None:
    if not isinstance(value, (list, tuple)) or len(value) != 3:
        return None
    counts = [_count(v) for v in value]
    return None if None in counts else counts
