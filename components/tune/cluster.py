"""A sweep by a RayJob: data to object storage, the job handed in and followed, its result brought back.

All that the job needs and leaves is below ``<storage>/sweeps/<key>``, the key being data, space and code:
``data/``, ``checkpoints/`` and, by the RayJob's name, ``job.json``, ``result/`` and the small objects ``watched``
(this side is alive), ``progress`` and ``error``. The name follows from the sweep, so that a step which is tried
again finds the job that an earlier attempt began. When this side ends early the job is deleted; when it is killed
the job misses ``watched`` and ends itself (components.tune.job). Either way finished epochs are kept.
"""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path
from typing import Any

from components.jobs import for_pods, made_by, shared_storage
from components.tune import rayjob
from components.tune.kuberay import Job
from seaway.artifacts import canonical_json, read_json, record_hash
from seaway.cache import place
from seaway.config import Config
from seaway.features import FeatureSpec


def sweep(config: Config, spec: FeatureSpec, dataset: Path, out: Path, resume: bool = True) -> dict[str, Any]:
    """As components.tune.step.tune, by a RayJob. Raises SeawayError with the job's own words when it fails."""
    from components.tune.step import sweep_key
    from components.tune.warm import look_up

    store = shared_storage(config)
    slots = min(rayjob.slots(config), config.workload.sweep.trials)
    at = store.join("sweeps", sweep_key(config, spec, dataset, slots))
    name = f"sweep-{record_hash([at, _until(config), made_by(config, 'components.tune.step')])[:12]}"
    mine = f"{at}/{name}"
    if not resume or not store.exists(f"{mine}/result"):
        with tempfile.TemporaryDirectory(prefix="seaway-sweep-") as folder:
            for split in ("sweep_train.parquet", "valid.parquet"):
                place(dataset / split, Path(folder) / split)
            store.publish(Path(folder), f"{at}/data")
        record = job_record(config, at, mine) | {"warm": look_up(config, spec, at.rpartition("/")[2])}
        store.write(f"{mine}/job.json", canonical_json(record).encode())
        Job(config, store, mine, manifest(config, name, record)).run(
            stale=() if resume else (f"{at}/checkpoints", f"{mine}/result")
        )
    with tempfile.TemporaryDirectory(prefix="seaway-sweep-") as folder:
        made = store.fetch(f"{mine}/result", Path(folder) / "result")
        for file in ("best.json", "trials.parquet"):
            place(made / file, out / file)
        return read_json(made / "summary.json")


def _until(config: Config) -> list[Any]:
    """When the sweep ends: with another end it is another job, which goes on from the same checkpoints."""
    sweep = config.workload.sweep
    return [sweep.trials, sweep.stop.model_dump(mode="json"), config.budget.limit]


def job_record(config: Config, at: str, mine: str) -> dict[str, Any]:
    """What job.json holds: the configuration as the job's image reads it, and where everything is."""
    record = {"at": mine, "data": f"{at}/data", "checkpoints": f"{at}/checkpoints"}
    return record | {"config": for_pods(config).model_dump(mode="json")}


def manifest(config: Config, name: str, record: dict[str, Any]) -> dict[str, Any]:
    """The RayJob that runs components.tune.job for a record of job.json."""
    uri = f"{record['at']}/job.json"
    entry = ["python", "-m", "components.tune.job", uri]
    for option, value in (("--endpoint", config.storage.endpoint), ("--region", config.storage.region)):
        entry += [option, value] if value else []
    files = {"job": uri, "data": record["data"], "result": f"{record['at']}/result"}
    return rayjob.ray_job(config, name, shlex.join(entry), files)
