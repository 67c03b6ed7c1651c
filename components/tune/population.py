"""Population based training (Jaderberg et al. 2017, arXiv 1711.09846), generation by generation. Plain data.

Member m's part of generation g is trial g * population + m: ``interval`` epochs that begin with the weights and the
optimizer of its parent in the generation before. It may begin when that generation has ended, so no trial's time
counts, members take turns where there are fewer slots, and a killed sweep goes on by asking again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.tune.rungs import Seen
from seaway.config import Sweep

PART = 4  # the lowest of so many parts takes over from the best
RESAMPLE = 0.25  # how often a parameter is drawn anew instead of moved
FACTORS = (0.8, 1.2)
LOOKS = 8  # points at which it is tried which parameters change the weights' shapes


@dataclass(frozen=True)
class Member:
    """One trial: ``params`` (None: the searcher suggests them), the parent's index (None: from the beginning)."""

    params: dict[str, Any] | None
    parent: int | None
    first: int  # epochs that lie before
    last: int  # the epoch that it ends with


def trials(sweep: Sweep) -> int:
    """All members' parts of all generations."""
    return sweep.population * math.ceil(sweep.max_epochs / sweep.interval)


class Generations:
    """Decides who goes on from whom, with which parameters. Nobody stops early: ``stopped`` stays empty.

    ``space``: Optuna's distributions; ``free``: the parameters that may be moved during training.
    """

    def __init__(self, sweep: Sweep, space: Mapping[str, Any], free: frozenset[str]) -> None:
        self._sweep, self._space, self.free = sweep, space, free
        self.seen: dict[int, Seen] = {}
        self.stopped: dict[int, int] = {}
        self._values: dict[int, float] = {}
        self._params: dict[int, dict[str, Any]] = {}

    def place(self, index: int) -> tuple[int, int]:
        """Generation and member of a trial."""
        return divmod(index, self._sweep.population)

    def may_begin(self, index: int) -> bool:
        generation, _ = self.place(index)
        first = (generation - 1) * self._sweep.population
        return generation == 0 or all(i in self._values for i in range(first, first + self._sweep.population))

    def knows(self, index: int, earlier: int) -> bool:
        """A searcher is asked for the first generation alone, and knows nothing."""
        return False

    def reported(self, index: int, epoch: int, value: float) -> bool:
        self.seen.setdefault(index, Seen()).values[epoch] = value
        return False

    def ended(self, index: int, value: float, stopped: bool = False, failed: bool = False) -> None:
        seen = self.seen.setdefault(index, Seen())
        seen.over, seen.failed, seen.last = True, failed, value
        # a trial that diverged ends with a value below all others
        self._values[index] = float("-inf") if failed or value < -1e8 else value

    def began(self, index: int, params: Mapping[str, Any]) -> None:
        """Trial ``index`` has these parameters."""
        self._params[index] = dict(params)

    def params(self, index: int) -> dict[str, Any]:
        return self._params[index]

    def member(self, index: int) -> Member | None:
        """What trial ``index`` is; None when the whole generation before it failed."""
        generation, number = self.place(index)
        size, interval = self._sweep.population, self._sweep.interval
        first, last = generation * interval, min((generation + 1) * interval, self._sweep.max_epochs)
        if generation == 0:
            return Member(None, None, 0, last)
        before = range((generation - 1) * size, generation * size)
        ranked = sorted(before, key=lambda i: (-self._values[i], i))
        good = [i for i in ranked if self._values[i] > float("-inf")]
        if not good:
            return None
        draw = np.random.default_rng([self._sweep.seed, generation, number])
        part = max(1, size // PART)
        parent = before[number]
        if parent not in good or parent in ranked[-part:]:
            best = good[:part]
            better = best[int(draw.integers(len(best)))]
            if self._values[better] > self._values[parent]:
                return Member(self._moved(self._params[better], draw), better, first, last)
        return Member(dict(self._params[parent]), parent, first, last)

    def _moved(self, params: Mapping[str, Any], draw: np.random.Generator) -> dict[str, Any]:
        return {
            name: moved(self._space[name], value, draw) if name in self.free else value
            for name, value in params.items()
        }


def moved(distribution: Any, value: Any, draw: np.random.Generator) -> Any:
    """A neighbour of ``value``, or sometimes any point of its ``distribution``."""
    anew, up, at = draw.random() < RESAMPLE, int(draw.integers(2)), draw.random()
    if hasattr(distribution, "choices"):
        choices = distribution.choices
        if anew:
            return choices[int(at * len(choices))]
        return choices[min(max(choices.index(value) + (1 if up else -1), 0), len(choices) - 1)]
    low, high = distribution.low, distribution.high
    whole = isinstance(low, int)
    if anew:
        if distribution.log:
            return float(np.exp(np.log(low) + at * (np.log(high) - np.log(low))))
        return int(low + at * (high - low + 1)) if whole else float(low + at * (high - low))
    new = value * FACTORS[up]
    if whole:
        new = max(value + 1, round(new)) if up else min(value - 1, round(new))
    return min(max(new, low), high)


def generations(sweep: Sweep, space: Mapping[str, Any], shapes: Callable[[Mapping[str, Any]], Any]) -> Generations:
    """The rules of a pbt sweep; ``shapes(params)`` are those of the weights of a model that is built with them."""
    return Generations(sweep, space, free(space, shapes, sweep.seed))


def free(space: Mapping[str, Any], shapes: Callable[[Mapping[str, Any]], Any], seed: int) -> frozenset[str]:
    """Parameters that change no weight's shape, tried at a few points with their extreme values."""
    draw = np.random.default_rng([seed, LOOKS])
    fixed: set[str] = set()
    for _ in range(LOOKS):
        point = {name: _any(distribution, draw) for name, distribution in space.items()}
        base = shapes(point)
        for name, distribution in space.items():
            if name not in fixed and any(shapes({**point, name: end}) != base for end in _ends(distribution)):
                fixed.add(name)
    return frozenset(space) - fixed


def _any(distribution: Any, draw: np.random.Generator) -> Any:
    if hasattr(distribution, "choices"):
        return distribution.choices[int(draw.integers(len(distribution.choices)))]
    low, high = distribution.low, distribution.high
    return int(draw.integers(low, high + 1)) if isinstance(low, int) else float(draw.uniform(low, high))


def _ends(distribution: Any) -> tuple[Any, ...]:
    return distribution.choices if hasattr(distribution, "choices") else (distribution.low, distribution.high)
