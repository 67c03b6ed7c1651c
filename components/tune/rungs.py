"""Which trials stop early, and when the next one may begin: decided in the order of trials, never by the clock.

All here is plain data. A real sweep and a simulated one ask the same functions.

A trial may not begin before those that came ``search`` before it have ended, and those that came a rung's lag before
it have passed that rung or ended. Its suggestion and its stops rest on what that makes known, and on nothing more, also
where more has happened. So whatever takes how long, the same is decided.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from seaway.config import Sweep

SPREAD = 0.75  # of the trials that could end while one goes on to a later rung; trials are of different speed


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
    there, those that came ``lag`` (or lag[level]) before it. A trial that ended by itself counts with its last value at
    the rungs that it did not reach.
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

    ``seen``: by trial; ``stopped``: the trials that must stop early.
    """

    def __init__(self, rungs: Rungs | Brackets, lags: Lags) -> None:
        self._rungs, self.lags = rungs, lags
        self.seen: dict[int, Seen] = {}
        self.stopped: set[int] = set()
        self._first = dict.fromkeys(lags.stops, 0)  # trials before it have all passed the level, or are over
        self._over = 0  # trials before it are all over

    def may_begin(self, index: int) -> bool:
        """Whether all is known that trial ``index`` rests on."""
        while self._over in self.seen and self.seen[self._over].over:
            self._over += 1
        if self._over < index - self.lags.search + 1:
            return False
        for level, lag in self.lags.stops.items():
            while self._past(self._first[level], level):
                self._first[level] += 1
            if self._first[level] < index - lag + 1:
                return False
        return True

    def knows(self, index: int, earlier: int) -> bool:
        """Whether the suggestion of trial ``index``, which may begin, rests on how trial ``earlier`` ended."""
        if earlier <= index - self.lags.search:
            return True
        seen = self.seen.get(earlier)
        if seen is None or not seen.over or seen.failed:
            return False
        return any(earlier <= index - lag and seen.epochs <= level for level, lag in self.lags.stops.items())

    def reported(self, index: int, epoch: int, value: float) -> bool:
        """Whether trial ``index`` must stop; ``value`` is its best so far."""
        seen = self.seen.setdefault(index, Seen())
        seen.values[epoch] = value
        if self._rungs.reported(index, epoch, value):
            seen.over = seen.stopped = True
            self.stopped.add(index)
            return True
        return False

    def ended(self, index: int, value: float, stopped: bool = False, failed: bool = False) -> None:
        """Trial ``index`` is over, with ``value``; ``failed``: by an error, so that it has none."""
        seen = self.seen.setdefault(index, Seen())
        seen.over, seen.failed, seen.last = True, failed, value
        if not stopped and not failed and index not in self.stopped:
            self._rungs.ended(index, value)

    def _past(self, index: int, level: int) -> bool:
        seen = self.seen.get(index)
        return seen is not None and (seen.over or max(seen.values, default=0) >= level)


def rules(sweep: Sweep, slots: int) -> Rules:
    """The rules of a sweep whose scheduler is asha, bohb or none."""
    at = levels(sweep.grace_epochs, sweep.max_epochs, sweep.reduction) if sweep.scheduler != "none" else ()
    lags = Lags.of(slots, at, sweep.max_epochs)
    return Rules((Brackets if sweep.scheduler == "bohb" else Rungs)(at, sweep.reduction, lags.stops), lags)
