"""Warm start: a sweep begins with the best points of earlier ones that searched the same space for the same metric.

They come from the tracking store, of sweeps of the same features; what a sweep found is recorded there at its end.
The points are looked up once and written into the sweep's folder: whoever goes on with it has the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from components.ray.place import bring, write_beside
from seaway import progress
from seaway.artifacts import canonical_json, read_json, record_hash, write_json
from seaway.config import Config
from seaway.errors import SeawayError
from seaway.features import FeatureSpec
from seaway.metrics import LOWER_IS_BETTER
from seaway.registry_sweeps import Sweeps

KEPT = 16  # points of a sweep that are recorded
_FILE = "warm.json"

Points = list[dict[str, Any]]


def searched(config: Config, spec: FeatureSpec) -> dict[str, str]:
    """The tags by which a sweep is found again: features, space and metric."""
    sweep = config.workload.sweep
    space = {name: parameter.model_dump(mode="json") for name, parameter in sweep.space.items()}
    return {"sweep.features": spec.hash, "sweep.space": record_hash(space), "sweep.metric": sweep.metric}


def best_first(points: Sequence[Mapping[str, Any]], metric: str, most: int) -> Points:
    """The ``most`` best distinct {"value", "params"}; of equal values the order is that of their parameters."""
    sign = 1.0 if metric in LOWER_IS_BETTER else -1.0
    made: dict[str, dict[str, Any]] = {}
    for point in sorted(points, key=lambda p: (sign * p["value"], canonical_json(p["params"]))):
        made.setdefault(canonical_json(point["params"]), dict(point))
    return list(made.values())[:most]


def look_up(config: Config, spec: FeatureSpec, key: str) -> Points:
    """The parameters to begin with, best first, at most ``sweep.warm_start``; none where the store cannot be asked.

    The sweep ``key`` itself does not count: made afresh it gives what it gave.
    """
    sweep = config.workload.sweep
    if not sweep.warm_start:
        return []
    try:
        found = Sweeps.of(config).points(searched(config, spec), without=key)
    except SeawayError as error:
        progress.say(f"sweep: begins without the points of earlier ones: {error}")
        return []
    points = [point["params"] for point in best_first(found, sweep.metric, sweep.warm_start)]
    if points:
        progress.say(f"sweep: begins with the best {len(points)} points of earlier sweeps")
    return points


def first_points(folder: Path, remote: Mapping[str, Any] | None, find: Callable[[], Points]) -> Points:
    """The points that the sweep in ``folder`` begins with: those written there, or what ``find`` finds, once."""
    file = folder / _FILE
    if not file.exists():
        bring(remote, file)
    if not file.exists():
        write_json(file, {"points": find()})
        write_beside(remote, file)
    return read_json(file)["points"]


def remember(config: Config, spec: FeatureSpec, out: Path, summary: Mapping[str, Any]) -> None:
    """Record in the tracking store what the finished sweep found; said, and no more, where that cannot be."""
    import polars as pl

    sweep = config.workload.sweep
    if not sweep.warm_start:
        return
    sign = -1.0 if sweep.metric in LOWER_IS_BETTER else 1.0
    table = pl.read_parquet(out / "trials.parquet").filter(
        (pl.col("status") != "failed") & pl.col(sweep.metric).is_not_null()
    )
    best = (
        table.sort(sign * pl.col(sweep.metric), descending=True, maintain_order=True)
        .unique("trial", keep="first", maintain_order=True)
        .rename({sweep.metric: "value"})
    )
    points = [{"value": row["value"], "params": {n: row[n] for n in sweep.space}} for row in best.to_dicts()]
    names = ("value", "trials", "stopped", "failed", "epochs_trained", "cpu_seconds", "gpu_seconds", "seconds")
    try:
        Sweeps.of(config).record(
            summary["key"],
            searched(config, spec),
            best_first(points, sweep.metric, KEPT),
            summary["params"],
            {name: summary[name] for name in names},
            best.sort("trial")["value"].to_list(),
        )
    except SeawayError as error:
        progress.say(f"sweep: later ones will not begin with its points: {error}")
