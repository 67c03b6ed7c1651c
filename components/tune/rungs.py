"""Which trials stop early, and when the next one may begin: decided in the order of trials, never by the clock.

All here is plain data. A real sweep and a simulated one ask the same functions.

A trial may not begin before those that came ``search`` before it have ended, and those that came a rung's lag before
it have passed that rung or ended. Its suggestion rests on what that makes known, and on nothing more, also where more
has happened. Its stop at a rung rests on all trials before it: while one of them is still on its way to that rung, the
trial trains on, and once it is decided that it had to stop, what it did after the rung counts for nobody. So whatever
takes how long, the same is decided.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from seaway.config import Sweep

SPREAD = 0.3  # of the trials that could end while one goes on to a later rung; trials are of different speed


@dataclass
class Seen:
    """What is known of one trial: best value so far by epoch, higher is better, and how it ended (with ``last``)."""

    values: dict[int, float] = field(default_factory=dict)
    last: float = float("-inf")
    over: bool = False
    stopped: bool = False
    failed: bool = False

    @property
    def epochs(self) -> int:
        """Of a trial that is over. Nobody reports the last epoch of one that ends by itself."""
        return max(self.values, default=0) + (not self.stopped)


@dataclass(frozen=True)
class Lags:
    """How far back trials must lie to be known: ``search`` for a suggestion, ``stops`` by the epoch of a rung."""

    search: int
    stops: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, slots: int, levels: Sequence[int], max_epochs: int) -> Lags:
        """Wide enough that ``slots`` trials at a time seldom wait for a long one, and no wider.

        While one trial goes from its start to epoch e, the other slots can end (slots - 1) * e / first trials that stop
        at the first rung. One slot waits for nobody.
        """
        if slots == 1:
            return cls(1, dict.fromkeys(levels, 1))
        first = levels[0] if levels else max_epochs

        def lag(epoch: int) -> int:
            return slots + max(1, slots // 4) + math.ceil((slots - 1) * (epoch / first - 1) * SPREAD)

        return cls(lag(max_epochs) + 1, {level: lag(level) for level in levels})


def levels(grace: int, max_epochs: int, reduction: int) -> tuple[int, ...]:
    """Epochs of the rungs: grace * reduction**k below max_epochs."""
    made = []
    while grace < max_epochs:
        made.append(grace)
        grace *= reduction
    return tuple(made)


class Rungs:
    """Asynchronous successive halving (Li et al. 2020, arXiv 1810.05934).

    At each of ``levels`` a trial goes on only when its best value is within the best 1/reduction of the earlier trials
    there, those that came ``lag`` (or lag[level]) before it: all of them with 1. A trial that ended by itself counts
    with its last value at the rungs that it did not reach.
    """

    def __init__(self, levels: Sequence[int], reduction: int, lag: int | Mapping[int, int]) -> None:
        self.levels, self.reduction = tuple(levels), reduction
        self._lag = lag if isinstance(lag, Mapping) else dict.fromkeys(levels, lag)
        self._at: dict[int, dict[int, float]] = {level: {} for level in levels}

    def reported(self, index: int, epoch: int, value: float) -> bool:
        """Whether trial ``index`` must stop now; asked again it answers the same."""
        rung = self._at.get(epoch)
        if rung is None:
            return False
        rung[index] = value
        earlier = [v for i, v in rung.items() if i <= index - self._lag[epoch]]
        return bool(earlier) and bool(value < np.quantile(earlier, 1 - 1 / self.reduction))

    def ended(self, index: int, value: float) -> None:
        """Trial ``index`` ended by itself."""
        for rung in self._at.values():
            rung.setdefault(index, value)


class Brackets:
    """Hyperband's brackets (Li et al. 2018; BOHB: Falkner et al. 2018, arXiv 1807.01774), each halving for itself.

    Bracket b begins at the b-th level, so that trials which learn slowly have their chance; the last one never stops.
    Trial i's bracket follows from i alone, in Hyperband's shares.
    """

    def __init__(self, levels: Sequence[int], reduction: int, lag: int | Mapping[int, int]) -> None:
        self.levels = tuple(levels)
        self._brackets = [Rungs(levels[first:], reduction, lag) for first in range(len(levels) + 1)]
        self._turns = turns(shares(len(levels), reduction))

    def bracket(self, index: int) -> int:
        return self._turns[index % len(self._turns)]

    def reported(self, index: int, epoch: int, value: float) -> bool:
        return self._brackets[self.bracket(index)].reported(index, epoch, value)

    def ended(self, index: int, value: float) -> None:
        self._brackets[self.bracket(index)].ended(index, value)


def shares(most: int, reduction: int) -> list[int]:
    """Trials of each bracket in one round of Hyperband, that with ``most`` rungs first."""
    return [math.ceil((most + 1) / (s + 1) * reduction**s) for s in range(most, -1, -1)]


def turns(weights: Sequence[int]) -> list[int]:
    """One round: each choice as often as its weight, spread evenly (smooth weighted round robin)."""
    made, credit = [], [0] * len(weights)
    for _ in range(sum(weights)):
        credit = [c + w for c, w in zip(credit, weights, strict=True)]
        chosen = max(range(len(weights)), key=lambda i: (credit[i], -i))
        credit[chosen] -= sum(weights)
        made.append(chosen)
    return made


class Rules:
    """What decides in a sweep of ``slots`` trials at a time: asha, bohb, or none that stops.

    ``seen``: by trial; ``stopped``: the trials that must stop early, with the last epoch that counts. A trial may have
    gone on, and even have ended, when it turns out that it had to stop; ``seen`` then knows nothing of what came later.
    """

    def __init__(self, rungs: Rungs | Brackets, lags: Lags) -> None:
        self._rungs, self.lags = rungs, lags
        self.seen: dict[int, Seen] = {}
        self.stopped: dict[int, int] = {}
        self._open: dict[int, list[int]] = {}  # rungs that a trial has passed and that are not decided yet
        self._ended: dict[int, tuple[float, bool]] = {}  # value and failure of trials that ended with such rungs open
        self._first = dict.fromkeys(lags.stops, 0)  # trials before it have all passed the level, or are over
        self._over = 0  # trials before it are all over

    def may_begin(self, index: int) -> bool:
        """Whether all is known that the suggestion of trial ``index`` rests on."""
        while self._over in self.seen and self.seen[self._over].over:
            self._over += 1
        if self._over < index - self.lags.search + 1:
            return False
        return all(self._passed(level) >= index - lag + 1 for level, lag in self.lags.stops.items())

    def knows(self, index: int, earlier: int) -> bool:
        """Whether the suggestion of trial ``index``, which may begin, rests on how trial ``earlier`` ended."""
        if earlier <= index - self.lags.search:
            return True
        seen = self.seen.get(earlier)
        if seen is None or not seen.over or seen.failed:
            return False
        return any(earlier <= index - lag and seen.epochs <= level for level, lag in self.lags.stops.items())

    def reported(self, index: int, epoch: int, value: float) -> bool:
        """Whether trial ``index`` must stop; ``value`` is its best so far. It may be told of an epoch again."""
        seen = self.seen.setdefault(index, Seen())
        if seen.over:
            return seen.stopped
        if epoch not in seen.values and epoch in self._first:
            self._open.setdefault(index, []).append(epoch)
        seen.values[epoch] = value
        stop = self._decided(index)
        self._settle()
        return stop

    def ended(self, index: int, value: float, stopped: bool = False, failed: bool = False) -> None:
        """Trial ``index`` is over, with ``value``; ``failed``: by an error, so that it has none."""
        seen = self.seen.setdefault(index, Seen())
        if not seen.over and not stopped:
            self._ended[index] = (value, failed)
            self._settle()

    def _settle(self) -> None:
        """Decide of trials that have ended; each may settle others."""
        for index in sorted(self._ended):
            seen = self.seen[index]
            if not self._decided(index) and not self._open.get(index):
                seen.over = True
                seen.last, seen.failed = self._ended[index]
                if not seen.failed:
                    self._rungs.ended(index, seen.last)
            if seen.over:
                del self._ended[index]
                self._settle()
                return

    def _decided(self, index: int) -> bool:
        """Decide at the open rungs for which all is known; whether trial ``index`` must stop."""
        seen, waiting = self.seen[index], self._open.get(index, [])
        while waiting and self._passed(waiting[0]) >= index:
            level = waiting.pop(0)
            if self._rungs.reported(index, level, seen.values[level]):
                seen.over = seen.stopped = True
                seen.values = {epoch: value for epoch, value in seen.values.items() if epoch <= level}
                seen.last = seen.values[level]
                self._open.pop(index)
                self.stopped[index] = level
                return True
        return False

    def _passed(self, level: int) -> int:
        """Trials before it have all passed ``level`` with that decided, or are over."""
        while self._past(self._first[level], level):
            self._first[level] += 1
        return self._first[level]

    def _past(self, index: int, level: int) -> bool:
        seen = self.seen.get(index)
        if seen is None or seen.over:
            return seen is not None
        waiting = self._open.get(index)
        return max(seen.values, default=0) >= level and not (waiting and waiting[0] <= level)


def rules(sweep: Sweep, slots: int) -> Rules:
    """The rules of a sweep whose scheduler is asha, bohb or none."""
    at = levels(sweep.grace_epochs, sweep.max_epochs, sweep.reduction) if sweep.scheduler != "none" else ()
    lags = Lags.of(slots, at, sweep.max_epochs)
    return Rules((Brackets if sweep.scheduler == "bohb" else Rungs)(at, sweep.reduction, 1), lags)
