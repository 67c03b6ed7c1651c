"""What decides in a planned sweep: the scheduler and the order of search of a real one, told of simulated trials."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from components.tune.order import OBJECTIVE, HalvingInOrder, SearchInOrder
from seaway.config import Sweep


class _Anything(Searcher):
    """Stands for the searcher: the points do not matter here, only when they may be asked for."""

    def suggest(self, trial_id: str) -> dict[str, Any]:
        return {}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None: ...


class Swept:
    """Rules of ``sweep`` with ``slots`` trials at a time, by the very objects that Ray Tune asks in a real sweep."""

    def __init__(self, sweep: Sweep, slots: int) -> None:
        lag = slots + 1
        grace = sweep.max_epochs if sweep.scheduler == "none" else sweep.grace_epochs
        self._scheduler = HalvingInOrder(grace, sweep.max_epochs, lag, (), sweep.reduction)
        self._search = SearchInOrder(_Anything(), lag)

    def may_begin(self, index: int) -> bool:
        """Asked for each index once it is the next, until it is true."""
        return self._search.suggest(str(index)) is not None

    def reported(self, index: int, epoch: int, value: float) -> bool:
        result = {"training_iteration": epoch, OBJECTIVE: value}
        return self._scheduler.on_trial_result(None, _trial(index), result) == TrialScheduler.STOP

    def ended(self, index: int, value: float, stopped: bool) -> None:
        failed = value == float("-inf")
        if failed:
            self._scheduler.on_trial_error(None, _trial(index))
        else:
            self._scheduler.on_trial_complete(None, _trial(index), {OBJECTIVE: value})
        self._search.on_trial_complete(str(index), {OBJECTIVE: value}, failed)


def _trial(index: int) -> Any:
    return SimpleNamespace(config={"index": index})
