"""Ray's side of the search: asked for a trial, it waits until all is known that its parameters rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ray.tune.search import Searcher

from components.tune.order import OBJECTIVE, Deciding
from components.tune.population import Generations
from components.tune.suggesting import Asked, Suggestions
from seaway.config import Sweep


class SearchInOrder(Searcher):
    """Suggests trial i once ``rules`` know all that it rests on. Its config: {"index": i, "params": {...}}.

    In pbt also "parent" ({"index", "params"} of the trial whose state it begins with, or None) and "epochs": the number
    before it and the one that it ends with.
    """

    def __init__(self, suggestions: Suggestions, rules: Deciding) -> None:
        super().__init__(metric=OBJECTIVE, mode="max")
        self._suggestions, self._rules = suggestions, rules
        self._points = Asked(suggestions, rules)
        self._asked = 0

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        index = self._asked
        if not self._rules.may_begin(index):
            return None
        if isinstance(self._rules, Generations):
            made = self._of_generation(self._rules, index)
        else:
            made = {"index": index, "params": self._points.next(index)}
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
