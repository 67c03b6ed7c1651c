"""Where the parameters of trials come from: Optuna's samplers, asked and told in the order of trials.

A real sweep and a simulated one ask the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from components.tune.order import Deciding
from components.tune.rungs import Seen
from components.tune.space import middle
from seaway.config import Sweep

STARTUP = 5  # points before TPE has a model: those that end early make many cheap ones


class Suggestions:
    """Optuna behind two questions. The same order of asking and telling gives the same points.

    A trial that was stopped is told as pruned, with its value at its last epoch: the model ranks those by how far
    they came first. ``first``: points to be suggested before any other. Without any, TPE begins with the middle of the
    space, for people write a space around what they expect.
    """

    def __init__(self, sweep: Sweep, space: Mapping[str, Any], first: Sequence[Mapping[str, Any]] = ()) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study = optuna.create_study(direction="maximize", sampler=_sampler(sweep))
        self._space = dict(space)
        self._trials: list[optuna.trial.Trial] = []
        if not first and learns(sweep):
            first = [middle(space)] if space else []
        for point in first:
            self._study.enqueue_trial(dict(point))

    def ask(self) -> dict[str, Any]:
        """The parameters of the next trial."""
        trial = self._study.ask(self._space)
        self._trials.append(trial)
        return dict(trial.params)

    def tell(self, index: int, seen: Seen) -> None:
        """How trial ``index`` ended; once each."""
        from optuna.trial import TrialState

        trial = self._trials[index]
        if seen.failed:
            self._study.tell(trial, state=TrialState.FAIL)
        elif seen.stopped:
            last = max(seen.values)
            trial.report(seen.values[last], step=last)
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            self._study.tell(trial, seen.last)


def learns(sweep: Sweep) -> bool:
    """Whether the searcher's points follow from how earlier trials ended."""
    return sweep.searcher == "tpe" and sweep.scheduler != "pbt"


def _sampler(sweep: Sweep) -> Any:
    from optuna.samplers import RandomSampler, TPESampler

    if not learns(sweep):
        return RandomSampler(seed=sweep.seed)
    return TPESampler(
        seed=sweep.seed, n_startup_trials=STARTUP, multivariate=sweep.scheduler == "bohb", constant_liar=True
    )


class Asked:
    """Suggestions for trial after trial, each resting on those earlier ones that ``rules`` say it knows."""

    def __init__(self, suggestions: Suggestions, rules: Deciding) -> None:
        self._suggestions, self._rules = suggestions, rules
        self._untold: list[int] = []

    def next(self, index: int) -> dict[str, Any]:
        """The parameters of trial ``index``, which may begin; every index once, in order."""
        for earlier in [i for i in self._untold if self._rules.knows(index, i)]:
            self._suggestions.tell(earlier, self._rules.seen[earlier])
            self._untold.remove(earlier)
        self._untold.append(index)
        return self._suggestions.ask()
