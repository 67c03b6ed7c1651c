"""Cumulative counters turned into blocks: how many requests and unwanted outcomes since the last look.

Counters are raw and cumulative, and there is a cursor for every predictor, source (a pod, a gateway) and
signal: the value up to which they were used. The same reading twice therefore adds nothing, a lost reading
is made up for by the next one, and nobody's ``rate()`` comes between. What is not a count (NaN, negative,
not whole), or was taken too long ago or in the future, is left out with a reason, never taken for zero.
"""

from __future__ import annotations

import hashlib
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
MOST_SOURCES = 64  # of one predictor
AHEAD_S = 5.0  # that a source's clock may be before ours
_LONGEST_NAME = 80
_AT = "at"  # beside a source's signals, in their form: milliseconds at which what was used was counted

Cursors = Mapping[str, Mapping[str, Any]]  # source -> signal -> [requests, unwanted, times seen lower]


@dataclass(frozen=True)
class Arm:
    """What one predictor's signals gained since its cursors."""

    gained: dict[str, tuple[int, int]] = field(default_factory=dict)  # signal -> (requests, unwanted), all sources
    cursors: dict[str, dict[str, list[int]]] = field(default_factory=dict)  # the new ones, whole
    forgotten: int = 0  # sources dropped so far because there were too many
    oldest: float | None = None  # when the oldest counts that were used were taken
    problems: tuple[str, ...] = ()


def advance(
    cursors: Cursors, found: Any, slo_ms: float | None, *, now: float, stale_s: float, forgotten: int = 0
) -> Arm:
    """The gain of one predictor from ``cursors`` to the reading ``found`` (source -> counts). Never raises.

    - The first reading of a predictor becomes its cursors: nothing is gained. A source that comes later
      started at zero since then (a new pod): its whole first reading counts.
    - A source that was there without a usable count starts with the first usable one, without a gain.
    - ``now`` and ``stale_s``, seconds: counts taken earlier than that, or in the future, are left out; so are
      counts taken before those that were used last. (Of two replicas of a metrics server one lags: taken for a
      reset, its reading would have every request since then counted twice.)
    - More than 64 sources: those that are gone are forgotten first, and from then on new ones start without a gain.
    """
    moved: dict[str, dict[str, list[int]]] = {name: dict(signals) for name, signals in cursors.items()}
    if not isinstance(found, Mapping) or (not found and cursors):
        return Arm(cursors=moved, forgotten=forgotten, problems=("no counters",))
    read = dict(sorted(((_name(source), counts) for source, counts in found.items()), key=lambda pair: pair[0]))
    known, forgotten = _bounded(moved, read, forgotten)
    gained: dict[str, tuple[int, int]] = {}
    problems: list[str] = []
    taken: list[float] = []
    for source, counts in read.items():
        new = source not in cursors
        if new and len(known) >= MOST_SOURCES:
            problems.append(f"more than {MOST_SOURCES} sources: {source} is left out")
            forgotten += not cursors  # what it counts by now is not all from after the first reading
            continue
        mine = known.setdefault(source, {})
        at = _get(counts, "at")
        if late := _untimely(at, now, stale_s):
            problems.append(f"{source}: {late}")
            continue
        if at is not None and _ms(at) < (_cursor(mine.get(_AT)) or [0])[0]:
            problems.append(f"{source}: counted before what was used already")
            continue
        taken.append(now if at is None else float(at))
        whole = new and bool(cursors) and not forgotten
        gains, signals, said = _source(mine, reading(counts, slo_ms), whole)
        if at is not None and any(mine.get(name) != cursor for name, cursor in signals.items()):
            mine[_AT] = [_ms(at), 0, 0]
        mine.update(signals)
        problems += [f"{source}, {p}" for p in said]
        for signal, (n, k) in gains.items():
            total = gained.get(signal, (0, 0))
            gained[signal] = (total[0] + n, total[1] + k)
    return Arm(gained, known, forgotten, min(taken, default=None), tuple(problems))


def _bounded(
    cursors: dict[str, dict[str, list[int]]], read: Mapping[str, Any], forgotten: int
) -> tuple[dict[str, dict[str, list[int]]], int]:
    """The cursors without those of sources that are gone, as far as new ones need the room."""
    coming = sum(name not in cursors for name in read)
    gone = [name for name in cursors if name not in read]
    drop = gone[: max(0, len(cursors) + coming - MOST_SOURCES)]
    return {name: c for name, c in cursors.items() if name not in drop}, forgotten + len(drop)


def reading(counts: Any, slo_ms: float | None) -> dict[str, tuple[Any, Any]]:
    """One source's cumulative (requests, unwanted) by signal, unchecked; what it does not count is left out."""
    values = {}
    for signal, (total, unwanted) in SIGNALS.items():
        n, k = _get(counts, total), _get(counts, unwanted)
        if signal == "latency":
            if slo_ms is None:
                continue
            k = _edge(k, slo_ms) if isinstance(k, Mapping) else k
        if n is not None and k is not None:
            values[signal] = (n, k)
    return values


def _source(
    cursor: Mapping[str, Any], now: Mapping[str, tuple[Any, Any]], whole: bool
) -> tuple[dict[str, tuple[int, int]], dict[str, list[int]], list[str]]:
    """Gains, moved cursors and problems of one source, by signal.

    - lower than the cursor twice in a row: the counter was reset, the reading becomes the cursor
      (once may be a failed scrape that reads 0: the cursor stays);
    - more unwanted outcomes than requests: the two were read at different instants; what is too many waits
      for the next reading (waiting with all of it would take long where every request is unwanted).
    """
    gained: dict[str, tuple[int, int]] = {}
    moved: dict[str, list[int]] = {}
    problems = []
    for signal, values in now.items():
        old = _cursor(cursor.get(signal)) or ([0, 0, 0] if whole else None)
        n, k = (_count(v) for v in values)
        if n is None or k is None:
            problems.append(f"{signal}: no usable count ({_short(values[0])}, {_short(values[1])})")
        elif old is None:
            moved[signal] = [n, k, 0]
        elif n < old[0] or k < old[1]:
            problems.append(f"{signal}: the counter went from {old[0]} of which {old[1]} to {n} of which {k}")
            moved[signal] = [n, k, 0] if old[2] else [old[0], old[1], 1]
        elif k - old[1] > n - old[0]:
            problems.append(f"{signal}: {k - old[1]} outcomes of {n - old[0]} requests; waiting for the rest")
            gained[signal] = (n - old[0], n - old[0])
            moved[signal] = [n, old[1] + n - old[0], 0]
        else:
            gained[signal] = (n - old[0], k - old[1])
            moved[signal] = [n, k, 0]
    return gained, moved, problems


def _untimely(at: Any, now: float, stale_s: float) -> str:
    if at is None:
        return ""
    if isinstance(at, bool) or not isinstance(at, (int, float)) or not math.isfinite(at):
        return f"its time {_short(at)} is no time"
    if at > now + AHEAD_S:
        return f"counted {at - now:.0f} s in the future"
    return f"counted {now - at:.0f} s ago, too long" if at < now - stale_s else ""


def _ms(at: float) -> int:
    return max(0, int(at) * 1000 + int(at % 1 * 1000))


def _get(counts: Any, name: str) -> Any:
    return counts.get(name) if isinstance(counts, Mapping) else getattr(counts, name, None)


def _edge(edges: Mapping[Any, Any], slo_ms: float) -> Any:
    """The count at one edge; JSON has texts for keys. None where there is no such edge."""
    for key, value in edges.items():
        try:
            if float(key) == float(slo_ms):
                return value
        except (TypeError, ValueError):
            continue
    return None


def _name(source: Any) -> str:
    text = str(source)
    return text if len(text) <= _LONGEST_NAME else hashlib.sha256(text.encode(errors="replace")).hexdigest()


def _short(value: Any) -> str:
    return repr(value)[:40]


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
