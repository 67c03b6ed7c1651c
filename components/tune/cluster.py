"""A sweep by a RayJob: data to object storage, the job handed in and followed, its result brought back.

All that the job needs and leaves is below ``<storage>/sweeps/<key>``, the key being data, space and code: ``data/``,
``checkpoints/`` and, by the RayJob's name, what components.ray.jobs says. The name follows from the sweep, so that a
step which is tried again finds the job that an earlier attempt began. When this side ends early the job is deleted;
when it is killed the job misses ``watched`` and ends itself. Either way finished epochs are kept.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from components.ray import jobs
from components.ray.needs import slots_of_job
from seaway.artifacts import read_json, record_hash
from seaway.cache import place
from seaway.config import Config
from seaway.features import FeatureSpec


def sweep(config: Config, spec: FeatureSpec, dataset: Path, out: Path, resume: bool = True) -> dict[str, Any]:
    """As components.tune.step.tune, by a RayJob. Raises SeawayError with the job's own words when it fails."""
    from components.tune.order import trials
    from components.tune.step import sweep_key
    from components.tune.warm import look_up

    store = jobs.shared_storage(config)
    slots = min(slots_of_job(config), trials(config.workload.sweep))
    at = store.join("sweeps", sweep_key(config, spec, dataset, slots))
    code = jobs.made_by(config, "components.tune.step", config.workload.model)
    name = f"sweep-{record_hash([at, _until(config), code])[:12]}"
    mine = f"{at}/{name}"
    if not resume or not store.exists(f"{mine}/result"):
        with tempfile.TemporaryDirectory(prefix="seaway-sweep-") as folder:
            for split in ("sweep_train.parquet", "valid.parquet"):
                place(dataset / split, Path(folder) / split)
            store.publish(Path(folder), f"{at}/data")
        record = {"data": f"{at}/data", "checkpoints": f"{at}/checkpoints"}
        record["warm"] = look_up(config, spec, at.rpartition("/")[2])
        jobs.run(config, "sweep", mine, record, stale=() if resume else (record["checkpoints"], f"{mine}/result"))
    with tempfile.TemporaryDirectory(prefix="seaway-sweep-") as folder:
        made = store.fetch(f"{mine}/result", Path(folder) / "result")
        for file in ("best.json", "trials.parquet"):
            place(made / file, out / file)
        return read_json(made / "summary.json")


def _until(config: Config) -> list[Any]:
    """When the sweep ends: with another end it is another job, which goes on from the same checkpoints."""
    sweep = config.workload.sweep
    return [sweep.trials, sweep.stop.model_dump(mode="json"), config.budget.limit]
