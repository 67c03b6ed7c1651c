"""The end of a sweep at its budget: before it costs more, so that all that was paid for is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from seaway import cost
from seaway.config import Budget, Config, StepResources
from seaway.spend import Rates, Use, cores, rates, spent, worth


def rates_of(budget: Budget) -> Rates:
    """The prices of a configuration, with config/prices.yaml where a machine is named; raises as ``rates``."""
    return rates(budget, cost.load() if budget.machine else None)


def at_limit(limit: float | None = None) -> str:
    """How the reason begins of a sweep that the budget has ended, of the one with this ``limit``."""
    return "budget.limit is" + (f" {worth(limit)}" if limit else "")


class Within:
    """An ``Ending``: the sweep is over when the running trials' next epochs would cost more than ``limit`` USD in all.

    What trials have used counts, in earlier runs of this sweep too: their cores and GPUs, as long as they held them.
    Where a whole cluster is held for the sweep (``held``: USD an hour), its time counts, if that is more.
    """

    def __init__(
        self,
        limit: float,
        rates: Rates,
        resources: StepResources,
        held: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit, self._rates, self._resources, self._held, self._clock = limit, rates, resources, held, clock
        self._since = clock()

    def must_end(self, records: Sequence[Mapping[str, Any]]) -> str:
        now = spent(records, self._resources, self._rates)
        before = sum(self._rates.usd(self._kept(r)) for r in records)
        total = before + max(now - before, self._held * (self._clock() - self._since) / 3600)
        dearest = max(map(self._epoch, records), default=0.0)
        more = sum(self._epoch(r) or dearest for r in records if r["status"] == "running")
        if total + more <= self._limit:
            return ""
        ahead = f", and the next epochs of the running trials cost {worth(more)} more" if total < self._limit else ""
        return f"{at_limit(self._limit)}: {worth(total)} are spent{ahead}"

    def _epoch(self, record: Mapping[str, Any]) -> float:
        """USD of one more epoch of a trial, by those that it has had; 0 before the first."""
        epochs = record["epochs"]
        return self._rates.usd(Use.of(self._resources, epochs[-1]["seconds"] / len(epochs))) if epochs else 0.0

    def _kept(self, record: Mapping[str, Any]) -> Use:
        """What the epochs used that earlier runs of the sweep have trained."""
        seconds = max((e["seconds"] for e in record["epochs"] if e.get("replayed")), default=0.0)
        return Use.of(self._resources, seconds)


def within(config: Config) -> tuple[Within, ...]:
    """The ending that the configuration asks for; none without a limit or without prices."""
    budget = config.budget
    known = rates_of(budget)
    if budget.limit is None or known.free:
        return ()
    return (Within(budget.limit, known, config.workload.sweep.resources, held(config, known)),)


def held(config: Config, known: Rates) -> float:
    """USD an hour of the Ray cluster that a RayJob holds for the sweep: its head and the workers from its start."""
    ray = config.ray
    if ray.substrate != "kuberay":
        return 0.0
    return known.hourly(cores(ray.head), ray.head.gpu) + ray.workers * known.hourly(cores(ray.worker), ray.worker.gpu)
