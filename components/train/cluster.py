"""Training by a RayJob: a pod a worker, everything between both sides below ``<storage>/train/<key>``.

The job's name follows from what is trained, with what code and by whom, so that a step which is tried again follows
the job of an earlier attempt, or finds its result. See components.ray.kuberay.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from components.ray import jobs
from seaway.artifacts import content_hash, read_json, record_hash
from seaway.cache import place
from seaway.config import Config
from seaway.features import FeatureSpec

SPLITS = ("train.parquet", "sweep_train.parquet", "valid.parquet")


def by_job(config: Config, spec: FeatureSpec, dataset: Path, best: Path, out: Path) -> dict[str, Any]:
    """As components.train.step.train_here. Raises SeawayError with the job's own words when it fails."""
    store = jobs.shared_storage(config)
    inputs = [content_hash(dataset / split) for split in SPLITS] + [content_hash(best / "best.json"), spec.hash]
    workload, training = config.workload.model_dump(mode="json"), config.training.model_dump(mode="json")
    at = store.join("train", record_hash([inputs, workload, config.compute.model_dump(mode="json")])[:16])
    code = jobs.made_by(config, "components.train.step", config.workload.model)
    name = f"train-{record_hash([at, training, code])[:12]}"
    mine = f"{at}/{name}"
    if not store.exists(f"{mine}/result"):
        with tempfile.TemporaryDirectory(prefix="seaway-train-") as folder:
            for split in SPLITS:
                place(dataset / split, Path(folder) / split)
            place(best / "best.json", Path(folder) / "best.json")
            store.publish(Path(folder), f"{at}/data")
        jobs.run(with_workers(config), "train", mine, {"data": f"{at}/data"})
    with tempfile.TemporaryDirectory(prefix="seaway-train-") as folder:
        made = store.fetch(f"{mine}/result", Path(folder) / "result")
        shutil.copytree(made / "model", out, dirs_exist_ok=True)
        return read_json(made / "summary.json")


def with_workers(config: Config) -> Config:
    """The RayJob's pods are the training's: as many as ``training`` wants, with its resources."""
    wanted = config.training
    pods = {"workers": wanted.workers, "max_workers": wanted.workers, "worker": wanted.resources}
    return config.model_copy(update={"ray": config.ray.model_copy(update=pods)})
