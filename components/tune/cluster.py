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

from components.tune import rayjob
from components.tune.kuberay import Job
from seaway.artifacts import canonical_json, content_hash, read_json, record_hash
from seaway.cache import place
from seaway.closure import source_hashes
from seaway.config import Config, project_root
from seaway.errors import SeawayError
from seaway.features import FeatureSpec
from seaway.storage import Storage


def sweep(config: Config, spec: FeatureSpec, dataset: Path, out: Path, resume: bool = True) -> dict[str, Any]:
    """As components.tune.step.tune, by a RayJob. Raises SeawayError with the job's own words when it fails."""
    from components.tune.step import sweep_key
    from components.tune.warm import look_up

    store = Storage.of(config)
    if store is None:
        raise SeawayError("ray.substrate is kuberay, whose pods share no files: set storage.uri, such as s3://bucket/x")
    slots = min(rayjob.slots(config), config.workload.sweep.trials)
    at = store.join("sweeps", sweep_key(config, spec, dataset, slots))
    name = f"sweep-{record_hash([at, _until(config), _made_by(config)])[:12]}"
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


def _made_by(config: Config) -> dict[str, str]:
    """What a result is of beside the sweep's key: hashes of all code behind it and of the lock, and the image."""
    roots = list(dict.fromkeys([project_root(), config.root]))
    code = source_hashes(["components.tune.step", config.workload.model], roots)
    lock = project_root() / "uv.lock"
    return code | {"lock": content_hash(lock) if lock.exists() else "", "image": config.ray.image}


def job_record(config: Config, at: str, mine: str) -> dict[str, Any]:
    """What job.json holds: the configuration as the job's image reads it, and where everything is."""
    record = {"at": mine, "data": f"{at}/data", "checkpoints": f"{at}/checkpoints"}
    return record | {"config": _for_pods(config).model_dump(mode="json")}


def manifest(config: Config, name: str, record: dict[str, Any]) -> dict[str, Any]:
    """The RayJob that runs components.tune.job for a record of job.json."""
    uri = f"{record['at']}/job.json"
    entry = ["python", "-m", "components.tune.job", uri]
    for option, value in (("--endpoint", config.storage.endpoint), ("--region", config.storage.region)):
        entry += [option, value] if value else []
    files = {"job": uri, "data": record["data"], "result": f"{record['at']}/result"}
    return rayjob.ray_job(config, name, shlex.join(entry), files)


def _for_pods(config: Config) -> Config:
    """The configuration for the job's image, which has the project at a place of its own: paths relative to it."""
    root, file = project_root(), config.workload_file
    shared = (config.storage.uri or "").startswith("file:")  # pods that share this machine's files see it where it is
    if file.is_relative_to(root):
        file = file.relative_to(root)
    elif not shared:
        raise SeawayError(
            f"the workload's file {file} is not in {root}, so the image of the sweep's job lacks it: move it there, "
            "with the code that it names, and build the images anew (`make images`)"
        )
    return config.model_copy(update={"home": Path(rayjob.HOME), "workload_file": file})
