"""Window features day by day: the same numbers as ``features.window_table``, with only some days in memory.

A window's count and sum at an event are differences of running totals of its entity: those at the window's end less
those at its start. A running total at a moment is the total of the whole days before it, and of the events of its own
day up to it. So the features of a day need the events of the few days in which its windows start and end, and a total
by entity for each of these days. All are whole numbers (``features.to_quanta``), so nothing depends on the grouping.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from seaway.features import MICRO, Window, micros, to_quanta, window_columns

DAY_SECONDS = 86_400
_TABLE = 1_000_000  # entries of a table of ranks that are worth it in any case: 8 MB
_EXACT = 2.0**53


@dataclass(frozen=True)
class Events:
    """A day's events in order of arrival: ``keys`` int64, ``times`` int64 microseconds, ``values``; each (n,)."""

    keys: np.ndarray
    times: np.ndarray | None  # None: not asked for
    values: np.ndarray


def reach(window: Window) -> int:
    """How many days before its own a day's features can depend on."""
    return -(-window.horizon // (DAY_SECONDS * MICRO))


class _Entities:
    """The sorted ``keys`` of the entities that count, and the rank of any key among them."""

    def __init__(self, keys: np.ndarray) -> None:
        self.keys = keys
        self._low = int(keys[0]) if len(keys) else 0
        span = int(keys[-1]) - self._low + 1 if len(keys) else 0
        self._table: np.ndarray | None = None
        if span <= _TABLE + 4 * len(keys):  # looked up rather than searched for
            self._table = np.full(span, -1, np.int64)
            self._table[keys - self._low] = np.arange(len(keys))

    def __len__(self) -> int:
        return len(self.keys)

    def ranks(self, keys: np.ndarray) -> np.ndarray:
        """int64 (n,); -1 for a key that is none of these."""
        if not len(self):
            return np.full(len(keys), -1, np.int64)
        if self._table is None:
            found = np.minimum(np.searchsorted(self.keys, keys), len(self) - 1)
            return np.where(self.keys[found] == keys, found, -1)
        inside = (keys >= self._low) & (keys <= self.keys[-1])
        return np.where(inside, self._table[np.where(inside, keys - self._low, 0)], -1)


class _Day:
    """A day's events of the known entities, by (entity, second, arrival), and totals within the day.

    ``axis`` int64 (m,): entity's rank x 86400 + second of the day; ``total`` (m + 1,): quanta before each; ``first``
    (entities + 1,): where each entity's events begin.
    """

    def __init__(self, day: int, events: Events | None, entities: _Entities, quantum: float) -> None:
        if events is None:
            self.axis, self.total = np.empty(0, np.int64), np.zeros(1, np.int64)
            self.first = np.zeros(len(entities) + 1, np.int64)
            return
        assert events.times is not None
        rank = entities.ranks(events.keys)
        known = np.flatnonzero(rank >= 0)
        axis = rank[known] * DAY_SECONDS + (events.times[known] // MICRO - day * DAY_SECONDS)
        order = np.argsort(axis, kind="stable")
        self.axis, self.order = axis[order], known[order]
        self.total = np.concatenate(([0], np.cumsum(to_quanta(events.values[self.order], quantum))))
        self.first = np.searchsorted(self.axis, np.arange(len(entities) + 1) * DAY_SECONDS)

    def sums(self) -> tuple[np.ndarray, np.ndarray]:
        """Each entity's count and quanta of the day."""
        return np.diff(self.first), np.diff(self.total[self.first])


def _sums(events: Events, entities: _Entities, quantum: float) -> tuple[np.ndarray, np.ndarray]:
    """As ``_Day.sums``, of a day in which no window begins or ends."""
    rank = entities.ranks(events.keys)
    known = rank >= 0
    rank, quanta = rank[known], to_quanta(events.values[known], quantum)
    count = np.bincount(rank, minlength=len(entities))
    if np.abs(quanta).sum(dtype=np.float64) < _EXACT:  # then sums of floats are whole numbers too
        return count, np.bincount(rank, weights=quanta, minlength=len(entities)).astype(np.int64)
    total = np.zeros(len(entities), np.int64)
    np.add.at(total, rank, quanta)
    return count, total


@dataclass(frozen=True)
class _Before:
    """Each entity's count and quanta before a day, since some day before all that is asked for."""

    count: np.ndarray
    quanta: np.ndarray


def window_days(
    window: Window, first: int, last: int, load: Callable[[int, bool], Events | None]
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """The window's features of each day from ``first`` to ``last`` (days since 1970, both included), as float32 (n,).

    ``load(day, timed)`` gives a day's events, None where there are none, times only if ``timed``; it is asked for days
    from ``reach(window)`` before ``first``. Columns are in order of arrival. In memory at once: the events of at most
    ``reach`` + 2 days, and totals of the entities that have an event from ``first`` to ``last``.
    """
    found: np.ndarray | None = None
    for day in range(first, last + 1):
        if (events := load(day, False)) is not None:
            found = np.unique(events.keys) if found is None else np.union1d(found, events.keys)
    if found is None:
        return
    entities = _Entities(found)
    delay = micros(window.delay) // MICRO
    offsets = [delay, *(delay + micros(length) // MICRO for length in window.windows)]
    edges = {(-offset // DAY_SECONDS, -(offset // DAY_SECONDS)) for offset in offsets}  # days before its own
    back = reach(window)
    days: dict[int, _Day] = {}
    before: dict[int, _Before] = {}
    total = _Before(np.zeros(len(entities), np.int64), np.zeros(len(entities), np.int64))
    for day in range(first - back, last + 1):
        before[day] = total
        timed = day >= first or any(first <= day - edge <= last for pair in edges for edge in pair)
        events = load(day, timed)
        if timed:
            days[day] = _Day(day, events, entities, window.quantum)
        if day >= first and events is not None:
            yield day, _features(window, day, offsets, days, before, len(events.keys))
        if events is not None:
            count, quanta = days[day].sums() if timed else _sums(events, entities, window.quantum)
            total = _Before(total.count + count, total.quanta + quanta)
        days.pop(day - back, None)
        before.pop(day - back, None)


def _features(
    window: Window, day: int, offsets: list[int], days: dict[int, _Day], before: dict[int, _Before], rows: int
) -> dict[str, np.ndarray]:
    own = days[day]
    rank, second = np.divmod(own.axis, DAY_SECONDS)
    edges = [_until(rank, second, day, offset, days, before) for offset in offsets]
    if offsets[0] == 0:  # by order of arrival, not by second
        position = np.arange(len(rank)) + bool(window.include_current)
        edges[0] = (
            before[day].count[rank] + position - own.first[rank],
            before[day].quanta[rank] + own.total[position] - own.total[own.first[rank]],
        )
    (end, sum_end), starts = edges[0], edges[1:]
    count = [end - start for start, _ in starts]
    quanta = [sum_end - sum_start for _, sum_start in starts]
    inverse = np.empty(rows, np.int64)
    inverse[own.order] = np.arange(rows)
    return {name: column[inverse] for name, column in window_columns(window, count, quanta).items()}


def _until(
    rank: np.ndarray, second: np.ndarray, day: int, offset: int, days: dict[int, _Day], before: dict[int, _Before]
) -> tuple[np.ndarray, np.ndarray]:
    """Each entity's running count and quanta up to ``offset`` seconds before each event, that second included."""
    whole, rest = divmod(offset, DAY_SECONDS)
    if not rest:
        return _running(rank, second, days[day - whole], before[day - whole])
    count, quanta = np.empty(len(rank), np.int64), np.empty(len(rank), np.int64)
    for rows, at, shift in (
        (second >= rest, day - whole, -rest),
        (second < rest, day - whole - 1, DAY_SECONDS - rest),
    ):
        if rows.any():
            count[rows], quanta[rows] = _running(rank[rows], second[rows] + shift, days[at], before[at])
    return count, quanta


def _running(rank: np.ndarray, second: np.ndarray, day: _Day, before: _Before) -> tuple[np.ndarray, np.ndarray]:
    position = np.searchsorted(day.axis, rank * DAY_SECONDS + second, side="right")
    start = day.first[rank]
    return before.count[rank] + position - start, before.quanta[rank] + day.total[position] - day.total[start]
