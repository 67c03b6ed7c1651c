"""Ray's side of the decisions: told of results and ends, it asks the rules and tells the watchers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from components.tune.order import OBJECTIVE, Deciding, Watcher
from components.tune.records import begun_again


class InOrder(FIFOScheduler):
    """Stops the trials that ``rules`` say.

    Watchers are told from here: Ray's own callbacks would import every tracking library there is.
    """

    def __init__(self, rules: Deciding, watchers: Sequence[Watcher] = (), slots: int = 1) -> None:
        super().__init__()
        self._rules, self._watchers, self._to_keep = rules, watchers, slots

    @property
    def stopped(self) -> Mapping[int, int]:
        """The trials that were stopped early, each with the last epoch that counts."""
        return self._rules.stopped

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_watchers": (), "_rules": None}  # Ray writes a copy of the scheduler to disk

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Ask Ray to keep the processes of as many trials as there are slots for later ones.

        It keeps one alone while no trial waits for a process. Here the next trial often waits for both slots' results,
        and a new process costs seconds of imports.
        """
        cache = getattr(tune_controller, "_actor_cache", None)
        if self._to_keep and hasattr(cache, "increase_max"):
            cache.increase_max(trial.placement_group_factory, by=self._to_keep)
            self._to_keep = 0

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        for watcher in self._watchers:
            watcher.reported(trial, result)
        stop = self._rules.reported(trial.config["index"], result["training_iteration"], result[OBJECTIVE])
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        index = trial.config["index"]
        if index not in self.stopped:
            for watcher in self._watchers:
                watcher.reported(trial, trial.last_result)  # Ray does not pass on_trial_result the last one
            # one that had failed in an earlier run says so again
            self._rules.ended(index, result[OBJECTIVE], failed=bool(result.get("error")))
        for watcher in self._watchers:
            watcher.ended(trial)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        if not begun_again(trial):
            self._rules.ended(trial.config["index"], float("-inf"), failed=True)
        for watcher in self._watchers:
            watcher.ended(trial)


def scheduler(rules: Deciding, watchers: Sequence[Watcher] = (), slots: int = 1) -> InOrder:
    """The scheduler of a sweep with ``slots`` trials at a time; ``rules``: see components.tune.order.deciding."""
    return InOrder(rules, watchers, slots)
