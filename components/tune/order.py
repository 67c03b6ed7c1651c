"""Search and early stopping that do not depend on which trial happens to be faster.

Trials run side by side, but a trial's parameters and its stopping are decided from trials that came at
least ``lag`` before it, all of which have ended. So the same seed gives the same sweep, and a sweep
that was killed is continued by asking again from the start: each trial gets the parameters that it had,
reports what it has recorded, and goes on from its checkpoint. The searcher needs no state of its own on
disk, and more trials can be added later.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

OBJECTIVE = "objective"  # the best metric of a trial so far, higher is better


class Watcher(Protocol):
    """Told of what happens to trials, in the sweep's own process."""

    def reported(self, trial: Trial, result: dict[str, Any]) -> None: ...

    def ended(self, trial: Trial) -> None: ...


class SearchInOrder(Searcher):
    """Wraps a searcher: trial i is suggested when trials up to i - lag have ended, knowing only those.

    The trial's config is {"index": i, "params": {...}}.
    """

    def __init__(self, searcher: Searcher, lag: int) -> None:
        super().__init__(metric=OBJECTIVE, mode="max")
        self.inner, self.lag = searcher, lag
        self._ids: list[str] = []
        self._ended: dict[str, tuple[dict[str, Any] | None, bool]] = {}
        self._told = 0

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        index = len(self._ids)
        known = max(0, index - self.lag + 1)
        if any(name not in self._ended for name in self._ids[:known]):
            return None
        for name in self._ids[self._told : known]:
            result, error = self._ended[name]
            self.inner.on_trial_complete(name, result, error)
        self._told = known
        params = self.inner.suggest(trial_id)
        if params is None or params == Searcher.FINISHED:
            return params
        self._ids.append(trial_id)
        return {"index": index, "params": params}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self._ended[trial_id] = (result, error)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to keep: asking again in the same order rebuilds the searcher's state."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("the sweep is continued by asking again, not by restoring the searcher")


class HalvingInOrder(FIFOScheduler):
    """Asynchronous successive halving (Li et al. 2020, arXiv 1810.05934), decided in order.

    At ``grace * reduction**k`` epochs a trial goes on only when its objective is within the best
    1/reduction of the earlier trials there (those that came ``lag`` before it). A trial that ended by
    itself counts with its last objective at the rungs that it did not reach. ``watchers`` are told of
    each result and each end (Ray's own callbacks would import every tracking library there is).
    """

    def __init__(
        self, grace: int, max_epochs: int, lag: int, watchers: Sequence[Watcher] = (), reduction: int = 3
    ) -> None:
        super().__init__()
        self.lag, self.reduction, self._watchers = lag, reduction, watchers
        self._rungs: dict[int, dict[int, float]] = {}
        while grace < max_epochs:
            self._rungs[grace] = {}
            grace *= reduction
        self.stopped: set[int] = set()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_watchers": ()}  # Ray writes a copy of the scheduler to disk

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        for watcher in self._watchers:
            watcher.reported(trial, result)
        index, epoch, value = trial.config["index"], result["training_iteration"], result[OBJECTIVE]
        if epoch not in self._rungs:
            return TrialScheduler.CONTINUE
        rung = self._rungs[epoch]
        earlier = [v for i, v in rung.items() if i <= index - self.lag]
        rung[index] = value
        if earlier and value < np.quantile(earlier, 1 - 1 / self.reduction):
            self.stopped.add(index)
            return TrialScheduler.STOP
        return TrialScheduler.CONTINUE

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        index = trial.config["index"]
        if index not in self.stopped:
            for watcher in self._watchers:
                watcher.reported(trial, trial.last_result)  # Ray does not pass on_trial_result the last one
            for rung in self._rungs.values():
                rung.setdefault(index, result[OBJECTIVE])
        for watcher in self._watchers:
            watcher.ended(trial)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        for watcher in self._watchers:
            watcher.ended(trial)
