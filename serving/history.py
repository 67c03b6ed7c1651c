"""The events of entities that windows can reach, in memory: what the online store is written from."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

import numpy as np

from seaway.features import MICRO, Window


class History:
    """Events by entity key of one Window view, trimmed to the window's horizon.

    Events of a label window wait until their label is known; ``release`` lets them in.
    """

    def __init__(self, window: Window, label_delay: int | None):
        """``label_delay``: microseconds until the value is known; None for a value that the request has."""
        self.window = window
        self.label_delay = label_delay
        self._reach = window.horizon // MICRO
        self._events: dict[int, list[tuple[int, int]]] = {}
        self._waiting: list[tuple[int, int, int, int, int]] = []  # known at, order of arrival, key, time, quanta
        self._arrived = 0

    def load(self, keys: np.ndarray, times: np.ndarray, quanta: np.ndarray, as_of: int) -> None:
        """Forget all, then take in events (sorted by time, int64 arrays) as they stood at ``as_of``."""
        self._events = {}
        self._waiting.clear()
        recent = times // MICRO > as_of // MICRO - self._reach
        if self.label_delay is not None:
            waits = recent & ((times + self.label_delay) // MICRO > as_of // MICRO)
            recent &= ~waits
            for event in zip(*(column[waits].tolist() for column in (keys, times, quanta)), strict=True):
                self.add(*event)
        events = zip(*(column[recent].tolist() for column in (keys, times, quanta)), strict=True)
        for key, time, amount in events:
            self._events.setdefault(key, []).append((time, amount))

    def add(self, key: int, time: int, quanta: int) -> bool:
        """Take one event in; False while its value is not known yet."""
        self._arrived += 1
        if self.label_delay is None:
            self._append(key, time, quanta)
            return True
        heapq.heappush(self._waiting, (time + self.label_delay, self._arrived, key, time, quanta))
        return False

    def release(self, now: int) -> set[int]:
        """Let in the events whose value is known at the second of ``now``; the keys that changed."""
        changed = set()
        while self._waiting and self._waiting[0][0] // MICRO <= now // MICRO:
            _, _, key, time, quanta = heapq.heappop(self._waiting)
            self._append(key, time, quanta)
            changed.add(key)
        return changed

    def of(self, key: int) -> tuple[np.ndarray, np.ndarray]:
        """Times and quanta of an entity, int64 (n,) each."""
        events = self._events.get(key, [])
        pairs = np.array(events, dtype=np.int64).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]

    def entities(self) -> Iterable[int]:
        return self._events.keys()

    def _append(self, key: int, time: int, quanta: int) -> None:
        events = self._events.setdefault(key, [])
        events.append((time, quanta))
        oldest = events[-1][0] // MICRO - self._reach
        # one more second than any window reaches back from the newest event: nothing that counts is lost
        while events[0][0] // MICRO < oldest:
            del events[0]
