"""Window features day by day: the same numbers as ``features.window_table``, with only some days in memory.

A window's count and sum at an event are differences of running totals of its entity: those at the window's end less
those at its start. A running total at a moment is the total of the whole days before it, and of the events of its own
day up to it. So the features of a day need the events of the few days in which its windows start and end, and a total
by entity for each of these days. All are whole numbers (``features.to_quanta``), so nothing depends on the grouping.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from seaway.features import MICRO, Window, micros, to_quanta, window_columns

DAY_SECONDS = 86_400
_TABLE = 1_000_000  # entries of a table of ranks that are worth it in any case: 8 MB
_EXACT = 2.0**53
_STRETCH = 32  # days, at most, that are read in one go


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

    def places(self, keys: np.ndarray) -> tuple[np.ndarray, int, Any]:
        """To count by: a number of each key, -1 for one that may be left out; how many there are; those of ours.

        The numbers are what is quickest to have: ranks, or with a table of them the keys less the lowest.
        """
        if self._table is None:
            return self.ranks(keys), len(self), slice(None)
        place, span = keys - self._low, len(self._table)
        if len(place) and (place.min() < 0 or place.max() >= span):
            place = np.where((keys >= self._low) & (place < span), place, -1)
        return place, span, self.keys - self._low


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
    """As ``_Day.sums``, of days in which no window begins or ends."""
    place, places, rows = entities.places(events.keys)
    known = place >= 0
    values = events.values
    if not known.all():
        place, values = place[known], values[known]
    quanta = to_quanta(values, quantum)
    count = np.bincount(place, minlength=places)[rows]
    if np.abs(quanta).sum(dtype=np.float64) < _EXACT:  # then sums of floats are whole numbers too
        return count, np.bincount(place, weights=quanta, minlength=places)[rows].astype(np.int64)
    total = np.zeros(places, np.int64)
    np.add.at(total, place, quanta)
    return count, total[rows]


@dataclass(frozen=True)
class _Before:
    """Each entity's count and quanta before a day, since some day before all that is asked for."""

    count: np.ndarray
    quanta: np.ndarray


def window_days(
    window: Window, first: int, last: int, load: Callable[[range, bool], Events | None]
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """The window's features of each day from ``first`` to ``last`` (days since 1970, both included), as float32 (n,).

    ``load(days, timed)`` gives the events of days, None where there are none, times only if ``timed``, and then of one
    day; it is asked for days from ``reach(window)`` before ``first``. Columns are in order of arrival. In memory at
    once: the events of at most ``reach`` + 2 days, and totals of the entities that have an event from ``first`` to
    ``last``.
    """
    found: np.ndarray | None = None
    for day in range(first, last + 1):
        if (events := load(range(day, day + 1), False)) is not None:
            found = np.unique(events.keys) if found is None else np.union1d(found, events.keys)
    if found is None:
        return
    entities = _Entities(found)
    delay = micros(window.delay) // MICRO
    offsets = [delay, *(delay + micros(length) // MICRO for length in window.windows)]
    back = reach(window)
    timed = _timed(first, last, back, offsets)
    days: dict[int, _Day] = {}
    before: dict[int, _Before] = {}
    total = _Before(np.zeros(len(entities), np.int64), np.zeros(len(entities), np.int64))
    for some in _stretches(range(first - back, last + 1), timed):
        day = some[0]
        before[day] = total
        if day in timed:
            events = load(some, True)
            days[day] = _Day(day, events, entities, window.quantum)
            if day >= first and events is not None:
                yield day, _features(window, day, offsets, days, before, len(events.keys))
            sums = days[day].sums()
        elif day < last - delay // DAY_SECONDS and (events := load(some, False)) is not None:
            sums = _sums(events, entities, window.quantum)
        else:
            continue  # no event, or later than where the last window ends
        total = _Before(total.count + sums[0], total.quanta + sums[1])
        for old in [d for d in before if d <= some[-1] - back]:
            before.pop(old)
            days.pop(old, None)


def _timed(first: int, last: int, back: int, offsets: list[int]) -> set[int]:
    """The days in which a window begins or ends, and those that are asked for."""
    edges = {-(-offset // DAY_SECONDS) for offset in offsets} | {offset // DAY_SECONDS for offset in offsets}
    ends = {day for edge in edges for day in range(first - edge, last - edge + 1)}
    return {day for day in ends if day >= first - back} | set(range(first, last + 1))


def _stretches(days: range, timed: set[int]) -> Iterator[range]:
    """The days in turn, those in which no window begins or ends several at a time."""
    start = days.start
    while start < days.stop:
        stop = start + 1
        while start not in timed and stop < days.stop and stop not in timed and stop - start < _STRETCH:
            stop += 1
        yield range(start, stop)
        start = stop


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
