"""What every step that a RayJob runs says and does alike, see components.tune.kuberay for the job itself."""

from __future__ import annotations

from pathlib import Path

from components.tune import rayjob
from seaway.artifacts import content_hash
from seaway.closure import source_hashes
from seaway.config import Config, project_root
from seaway.errors import SeawayError
from seaway.storage import Storage


def shared_storage(config: Config) -> Storage:
    """Where both sides of a job keep what they hand on. Raises SeawayError where the configuration has none."""
    store = Storage.of(config)
    if store is None:
        raise SeawayError("ray.substrate is kuberay, whose pods share no files: set storage.uri, such as s3://bucket/x")
    return store


def made_by(config: Config, module: str) -> dict[str, str]:
    """What a result is of beside its inputs: hashes of all code behind ``module`` and of the lock, and the image."""
    roots = list(dict.fromkeys([project_root(), config.root]))
    lock = project_root() / "uv.lock"
    code = source_hashes([module, config.workload.model], roots)
    return code | {"lock": content_hash(lock) if lock.exists() else "", "image": config.ray.image}


def for_pods(config: Config) -> Config:
    """The configuration for the job's image, which has the project at a place of its own: paths relative to it."""
    root, file = project_root(), config.workload_file
    shared = (config.storage.uri or "").startswith("file:")  # pods that share this machine's files see it where it is
    if file.is_relative_to(root):
        file = file.relative_to(root)
    elif not shared:
        raise SeawayError(
            f"the workload's file {file} is not in {root}, so the image of the job lacks it: move it there, "
            "with the code that it names, and build the images anew (`make images`)"
        )
    return config.model_copy(update={"home": Path(rayjob.HOME), "workload_file": file})
