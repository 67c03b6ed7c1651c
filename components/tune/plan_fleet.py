"""The nodes of a simulated sweep: they start, are held and paid for, are taken away and come back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

READY, EPOCH, LOST = range(3)  # kinds of events


@dataclass(frozen=True)
class Fleet:
    """Where the trials run: ``slots`` of them at a time, ``per_node`` on each node.

    Seconds: ``start`` from asking for a node until it takes trials, ``begin`` of beginning a trial, ``again`` of
    bringing back one that lost its node, ``once`` before all and after all, ``process`` of imports before a place's
    first trial. ``loss`` is the mean time until a node is taken away (exponential), None: never. ``speed``: how much
    faster an epoch is than where the curves were measured.
    """

    slots: int
    per_node: int = 1
    start: float = 0.0
    begin: float = 0.0
    again: float = 0.0
    once: float = 0.0
    loss: float | None = None
    speed: float = 1.0
    process: float = 0.0

    @property
    def nodes(self) -> int:
        return -(-self.slots // self.per_node)


class Machines:
    """Nodes and the free places on them; tells what happens to them next through ``put``."""

    def __init__(self, fleet: Fleet, draw: np.random.Generator, put: Callable[[float, int, int], None]) -> None:
        self.fleet, self._draw, self._put = fleet, draw, put
        self.free: dict[int, int] = {}  # node -> places
        self.asked: dict[int, float] = {}  # node -> when
        self._next = 0
        self._left = fleet.slots  # the last node may have fewer places
        self._places: dict[int, int] = {}
        self._cold: dict[int, int] = {}  # node -> places without a process
        self.held = 0.0

    def ask(self, now: float, places: int | None = None) -> None:
        node, self._next = self._next, self._next + 1
        if places is None:
            places = min(self.fleet.per_node, self._left)
            self._left -= places
        self.asked[node], self._places[node] = now, places
        self._put(now + self.fleet.start, READY, node)

    def ready(self, node: int, now: float) -> None:
        self.free[node] = self._cold[node] = self._places[node]
        if self.fleet.loss:
            self._put(now + float(self._draw.exponential(self.fleet.loss)), LOST, node)

    def take(self, node: int) -> float:
        """A place there; the seconds that a process of its own takes to begin, where none is kept."""
        self.free[node] -= 1
        if not self._cold[node]:
            return 0.0
        self._cold[node] -= 1
        return self.fleet.process

    def lost(self, node: int, now: float) -> None:
        """It is paid until now, and another of its size is asked for."""
        self.held += now - self.asked.pop(node)
        self.free.pop(node)
        self.ask(now, self._places[node])

    def close(self, now: float) -> float:
        """Seconds of all nodes together, those that are there still until now."""
        return self.held + sum(now - at for at in self.asked.values())
