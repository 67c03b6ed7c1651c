"""What a sweep will take, by scheduler: many simulated sweeps, and the middle and the edges of what came of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from statistics import NormalDist
from typing import Any

import numpy as np

from components.tune.order import Deciding
from components.tune.plan import Tally, simulate
from components.tune.plan_curves import Curves
from components.tune.plan_fleet import Fleet
from components.tune.plan_search import TAUGHT, Known, Searched, known
from seaway.config import StepResources, Sweep
from seaway.spend import Rates, Use, cores

EDGES = (0.05, 0.5, 0.95)
HOUR = 3600.0
POINTS = 60  # of the line of the best so far
ASKS = 600  # of a searcher that learns, in one plan: each takes about 10 ms
LEAST = 3  # simulated sweeps of a scheduler that ask
# by which a sweep takes longer or shorter than its points say: usual deviation of the logarithm. The same sweep run
# again differed by a third of it; the rest is what a measured sweep does not tell
SPREAD = 0.3


def planned(
    sweep: Sweep,
    curves: Curves,
    fleet: Fleet,
    schedulers: Sequence[str],
    *,
    rates: Rates,
    node: StepResources,
    head: StepResources | None = None,
    seeds: int = 20,
    seed: int = 0,
) -> dict[str, Any]:
    """A JSON-able record: what was asked, and by scheduler the [low, middle, high] of ``seeds`` simulated sweeps.

    low and high: 5 and 95 in 100 stay below. ``seconds`` of the whole; ``trials_usd`` as a sweep itself counts: what
    trials hold; ``nodes_usd`` as a cloud does: nodes of ``node`` from being asked for to the end, and ``head`` beside
    them. USD are None without prices. ``best`` as the metric reads; ``used``: share of the slots' time that trains.
    """
    by: dict[str, Any] = {}
    told = known(curves, sweep)
    asking = min(seeds, max(LEAST, ASKS // (TAUGHT * len(schedulers))))
    for scheduler in schedulers:
        changed = sweep.model_copy(update={"scheduler": scheduler})
        tallies = _searched(changed, curves, told, fleet, seeds, seed, asking) if told else [
            simulate(changed, curves, fleet, (seed, number)) for number in range(seeds)
        ]  # fmt: skip
        by[scheduler] = _summary(tallies, curves, sweep.resources, fleet, rates, node, head)
    return {
        "trials": sweep.trials,
        "max_epochs": sweep.max_epochs,
        "metric": sweep.metric,
        "measured": len(curves.measured),
        "seeds": seeds,
        "fleet": asdict(fleet),
        "nodes": fleet.nodes,
        "prices": rates.source,
        "schedulers": by,
    }


def _searched(
    sweep: Sweep, curves: Curves, told: Known, fleet: Fleet, seeds: int, seed: int, asking: int
) -> list[Tally]:
    """``seeds`` simulated sweeps, of which the first ``asking`` ask the searcher; the others find what these found.

    The searcher has the seed of the sweep that is planned: where it begins is known. What chance makes is the
    landscape, and the pace, which is spread evenly over the sweeps.
    """
    tallies, found = [], []
    for number in range(seeds):
        machine = math.exp(SPREAD * NormalDist().inv_cdf((number + 0.5) / seeds))
        made: list[Searched] = []

        def source(rules: Deciding, number: int = number, machine: float = machine, made: list = made) -> Any:
            again = found[number % asking] if number >= asking else ()
            made.append(Searched(told, sweep, rules, fleet.slots, (seed, number, 0), machine, again))
            return made[0].curve

        tallies.append(simulate(sweep, curves, fleet, (seed, number), source))
        found.append(made[0].found)
    return tallies


def _summary(
    tallies: Sequence[Tally],
    curves: Curves,
    resources: StepResources,
    fleet: Fleet,
    rates: Rates,
    node: StepResources,
    head: StepResources | None,
) -> dict[str, Any]:
    nodes = rates.hourly(cores(node), node.gpu)
    beside = rates.hourly(cores(head), head.gpu) if head else 0.0
    good = [t for t in tallies if t.best > float("-inf")]
    made: dict[str, Any] = {
        "seconds": _spread([t.seconds for t in tallies]),
        "slot_hours": _spread([t.slot_seconds / HOUR for t in tallies]),
        "node_hours": _spread([t.node_seconds / HOUR for t in tallies]),
        "best": _spread(sorted(curves.shown(t.best) for t in good)),
        "epochs": _spread([t.epochs for t in tallies]),
        "stopped": _spread([t.stopped for t in tallies]),
        "failed": _spread([t.failed for t in tallies]),
        "losses": _spread([t.losses for t in tallies]),
        "lost_hours": _spread([t.lost_seconds / HOUR for t in tallies]),
        "used": _spread([t.slot_seconds / (t.seconds * fleet.slots) for t in tallies]),
        "trials_usd": None,
        "nodes_usd": None,
        "path": _path(tallies, curves),
    }
    if not rates.free:
        made["trials_usd"] = _spread([rates.usd(Use.of(resources, t.slot_seconds)) for t in tallies])
        made["nodes_usd"] = _spread([(nodes * t.node_seconds + beside * t.seconds) / HOUR for t in tallies])
    return made


def _spread(values: Sequence[float]) -> list[float]:
    return [float(v) for v in np.quantile(values, EDGES)] if len(values) else []


def _path(tallies: Sequence[Tally], curves: Curves) -> list[list[float]]:
    """The best so far as time goes on, [seconds, middle of the sweeps], once half of them have a result."""
    last = float(np.median([t.seconds for t in tallies]))
    times = np.linspace(0.0, last, POINTS + 1)[1:]
    found = np.full((len(tallies), len(times)), float("-inf"))
    for row, tally in zip(found, tallies, strict=True):
        for seconds, value in tally.path:
            row[times >= seconds] = value
    middle = np.median(found, axis=0)
    return [[float(t), curves.shown(float(v))] for t, v in zip(times, middle, strict=True) if np.isfinite(v)]
