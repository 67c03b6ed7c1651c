"""Where the parameters of trials come from: Optuna's samplers, asked and told in the order of trials."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.search import Searcher

from components.tune.order import OBJECTIVE, Deciding
from components.tune.population import Generations
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
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study = optuna.create_study(direction="maximize", sampler=_sampler(sweep))
        self._space = dict(space)
        self._trials: list[optuna.trial.Trial] = []
        if not first and sweep.searcher == "tpe" and sweep.scheduler != "pbt":
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
        trial = self._trials[index]
        if seen.failed:
            self._study.tell(trial, state=TrialState.FAIL)
        elif seen.stopped:
            last = max(seen.values)
            trial.report(seen.values[last], step=last)
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            self._study.tell(trial, seen.last)


def _sampler(sweep: Sweep) -> optuna.samplers.BaseSampler:
    if sweep.searcher == "random" or sweep.scheduler == "pbt":
        return optuna.samplers.RandomSampler(seed=sweep.seed)
    return optuna.samplers.TPESampler(
        seed=sweep.seed, n_startup_trials=STARTUP, multivariate=sweep.scheduler == "bohb", constant_liar=True
    )


class SearchInOrder(Searcher):
    """Suggests trial i once ``rules`` know all that it rests on. Its config: {"index": i, "params": {...}}.

    In pbt also "parent" ({"index", "params"} of the trial whose state it begins with, or None) and "epochs": the number
    before it and the one that it ends with.
    """

    def __init__(self, suggestions: Suggestions, rules: Deciding) -> None:
        super().__init__(metric=OBJECTIVE, mode="max")
        self._suggestions, self._rules = suggestions, rules
        self._asked = 0
        self._untold: list[int] = []

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        index = self._asked
        if not self._rules.may_begin(index):
            return None
        if isinstance(self._rules, Generations):
            made = self._of_generation(self._rules, index)
        else:
            for earlier in [i for i in self._untold if self._rules.knows(index, i)]:
                self._suggestions.tell(earlier, self._rules.seen[earlier])
                self._untold.remove(earlier)
            self._untold.append(index)
            made = {"index": index, "params": self._suggestions.ask()}
        self._asked += isinstance(made, dict)
        return made

    def _of_generation(self, rules: Generations, index: int) -> dict[str, Any] | str:
        member = rules.member(index)
        if member is None:
            return Searcher.FINISHED
        params = self._suggestions.ask() if member.params is None else member.params
        rules.began(index, params)
        parent = None if member.parent is None else {"index": member.parent, "params": rules.params(member.parent)}
        return {"index": index, "params": params, "parent": parent, "epochs": [member.first, member.last]}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The rules know it from the scheduler."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to keep: asking again in the same order rebuilds the searcher's state."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("the sweep is continued by asking again, not by restoring the searcher")


def searcher(
    sweep: Sweep, space: Mapping[str, Any], rules: Deciding, warm: Sequence[Mapping[str, Any]] = ()
) -> SearchInOrder:
    """The searcher of a sweep in ``space`` (Optuna's distributions), with the points of ``warm`` first."""
    return SearchInOrder(Suggestions(sweep, space, warm), rules)
