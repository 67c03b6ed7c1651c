"""Search and early stopping that do not depend on which trial happens to be faster.

Trials run side by side, but a trial's parameters and its stopping are decided from fixed sets of earlier trials
(components/tune/rungs.py, population.py). So the same seed gives the same sweep, and a sweep that was killed is
continued by asking again from the start: each trial gets the parameters that it had, reports what it has recorded,
and goes on from its checkpoint. Nothing of searcher and scheduler is kept on disk, and more trials can be added later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from components.tune import population, rungs
from seaway.config import Sweep

OBJECTIVE = "objective"  # the best metric of a trial so far, higher is better


class Watcher(Protocol):
    """Told of what happens to trials, in the sweep's own process."""

    def reported(self, trial: Any, result: dict[str, Any]) -> None: ...

    def ended(self, trial: Any) -> None: ...


class Deciding(Protocol):
    """The decisions of one sweep; in a real one, a resumed one and a simulated one the same."""

    stopped: dict[int, int]  # by trial, the last epoch that counts
    seen: dict[int, rungs.Seen]

    def may_begin(self, index: int) -> bool: ...

    def knows(self, index: int, earlier: int) -> bool: ...

    def reported(self, index: int, epoch: int, value: float) -> bool: ...

    def ended(self, index: int, value: float, stopped: bool = False, failed: bool = False) -> None: ...


def deciding(
    sweep: Sweep, slots: int, space: Mapping[str, Any], shapes: Callable[[Mapping[str, Any]], Any] | None = None
) -> rungs.Rules | population.Generations:
    """The rules of ``sweep`` with ``slots`` trials at a time; ``shapes`` of a model's weights: for pbt."""
    if sweep.scheduler != "pbt":
        return rungs.rules(sweep, slots)
    return population.generations(sweep, space, shapes or (lambda params: None))


def trials(sweep: Sweep) -> int:
    """How many trials Ray is asked for. In pbt one trial is one member's part of one generation."""
    return population.trials(sweep) if sweep.scheduler == "pbt" else sweep.trials
