"""A sweep at scale, simulated before it is paid for: trials, slots, nodes that start, are lost and come back.

A discrete-event simulation. Trials take their values and seconds from measured curves; which of them may begin, go on
or must stop is decided by the functions that decide it in a real sweep. Everything is a function of the seed.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from components.tune.order import Deciding, deciding, trials
from components.tune.plan_curves import Curve, Curves
from components.tune.plan_fleet import EPOCH, LOST, READY, Fleet, Machines
from components.tune.population import Generations
from seaway.config import Sweep


@dataclass
class Tally:
    """One simulated sweep. Seconds are of the wall clock, of nodes held, of slots used, and of work done twice."""

    seconds: float = 0.0
    node_seconds: float = 0.0
    slot_seconds: float = 0.0
    lost_seconds: float = 0.0
    losses: int = 0
    epochs: int = 0
    stopped: int = 0
    failed: int = 0
    best: float = float("-inf")
    best_at: float = 0.0  # seconds
    path: list[tuple[float, float]] = field(default_factory=list)  # (seconds, best so far), at each better one


@dataclass
class Run:
    """One trial: ``done`` of ``last`` epochs, running ``since`` a time on ``node``; None: waiting for one."""

    index: int
    curve: Curve
    last: int
    done: int = 0
    begun: bool = False
    node: int | None = None
    since: float = 0.0
    turn: int = 0  # counts the events that still hold

    @property
    def best(self) -> float:
        return float(self.curve.values[: self.done].max()) if self.done else float("-inf")


class Simulation:
    """One sweep of ``trials`` under ``rules`` on ``fleet``; ``curve(index)`` is a trial's."""

    def __init__(
        self, trials: int, curve: Callable[[int], Curve], rules: Deciding, fleet: Fleet, draw: np.random.Generator
    ) -> None:
        self._trials, self._curve, self._rules, self._fleet = trials, curve, rules, fleet
        self._curves: dict[int, Curve] = {}  # pbt: by trial, to go on from
        self._events: list[tuple[float, int, int, int, int]] = []
        self._count = 0
        self._nodes = Machines(fleet, draw, self._put)
        self._running: dict[int, Run] = {}
        self._waiting: deque[Run] = deque()  # lost their node
        self._next = 0
        self.tally = Tally()

    def run(self) -> Tally:
        for _ in range(self._fleet.nodes):
            self._nodes.ask(0.0)
        now = 0.0
        while self._running or self._waiting or self._next < self._trials:
            now, _, kind, who, turn = heapq.heappop(self._events)
            if kind == READY:
                self._nodes.ready(who, now)
            elif kind == LOST:
                self._lost(who, now)
            else:
                run = self._running.get(who)
                if run is None or run.turn != turn or run.node is None:
                    continue
                if not self._epoch(run, now):
                    continue
            self._fill(now)
        self.tally.stopped = len(self._rules.stopped)
        self.tally.seconds = now + self._fleet.once
        self.tally.node_seconds = self._nodes.close(now)
        return self.tally

    def _put(self, at: float, kind: int, who: int, turn: int = 0) -> None:
        self._count += 1
        heapq.heappush(self._events, (at, self._count, kind, who, turn))

    def _fill(self, now: float) -> None:
        for node in list(self._nodes.free):
            while self._nodes.free[node]:
                run = self._following()
                if run is None:
                    return
                at = now + self._nodes.take(node)
                self._running[run.index] = run
                run.node, run.since = node, now
                self._go_on(run, at + (self._fleet.again if run.begun else self._fleet.begin))
                run.begun = True

    def _following(self) -> Run | None:
        if self._waiting:
            return self._waiting.popleft()
        index = self._next
        if index >= self._trials or not self._rules.may_begin(index):
            return None
        self._next += 1
        if not isinstance(self._rules, Generations):
            curve = self._curve(index)
            return Run(index, curve, len(curve.values) if curve.failed else curve.end)
        member = self._rules.member(index)
        if member is None:  # a whole generation has failed
            self._next = self._trials
            return None
        self._rules.began(index, {})
        # what takes over another's weights goes on as that one did: what moved parameters gain is not known
        self._curves[index] = self._curve(index) if member.parent is None else self._curves[member.parent]
        return Run(index, self._curves[index], min(member.last, len(self._curves[index].values)), member.first)

    def _go_on(self, run: Run, at: float) -> None:
        run.turn += 1
        self._put(at + float(run.curve.seconds[run.done]) / self._fleet.speed, EPOCH, run.index, run.turn)

    def _epoch(self, run: Run, now: float) -> bool:
        """An epoch is done; whether that was the trial's last."""
        tally, curve = self.tally, run.curve
        run.done += 1
        tally.epochs += 1
        tally.slot_seconds += now - run.since
        run.since = now
        last = run.done >= run.last
        if curve.failed and run.done >= len(curve.values):
            tally.failed += 1
            self._end(run, float("-inf"), stopped=False, failed=True)
            return True
        value = run.best
        if value > tally.best:
            tally.best, tally.best_at = value, now
            tally.path.append((now, value))
        # Ray does not ask the scheduler about a trial's last result
        stopped = not last and self._rules.reported(run.index, run.done, value)
        if last or stopped:
            self._end(run, value, stopped)
            return True
        self._go_on(run, now)
        return False

    def _end(self, run: Run, value: float, stopped: bool, failed: bool = False) -> None:
        del self._running[run.index]
        self._nodes.free[run.node] += 1
        if not stopped:  # the rules know those that they have stopped
            self._rules.ended(run.index, value, failed=failed)

    def _lost(self, node: int, now: float) -> None:
        self._nodes.lost(node, now)
        self.tally.losses += 1
        for run in [run for run in self._running.values() if run.node == node]:
            spent = now - run.since
            self.tally.slot_seconds += spent
            self.tally.lost_seconds += spent
            del self._running[run.index]
            run.node = None
            self._waiting.append(run)


def simulate(
    sweep: Sweep,
    curves: Curves,
    fleet: Fleet,
    seed: Sequence[int],
    source: Callable[[Deciding], Callable[[int], Curve]] | None = None,
) -> Tally:
    """One sweep; the same seed gives the same. Its trials are those of ``source`` under the sweep's rules, in order.

    Without it they are measured ones, drawn from ``curves``.
    """
    rules = deciding(sweep, fleet.slots, {})
    in_order = sweep.searcher != "random" and sweep.scheduler != "pbt"
    curve = source(rules) if source else lambda index: curves.drawn((*seed, 0), index, in_order)
    return Simulation(trials(sweep), curve, rules, fleet, np.random.default_rng([*seed, 1])).run()
