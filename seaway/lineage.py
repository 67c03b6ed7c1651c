"""Where a model version comes from: code, data, features, configuration, libraries, run, infrastructure."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from seaway.artifacts import content_hash, record_hash
from seaway.config import Config, Infrastructure, project_root
from seaway.features import FeatureSpec

# places, and versions that the record names itself: they do not decide what a model is
_PLACES: dict[str, Any] = {"home": True, "workload_file": True, "tracking_uri": True, "infrastructure": True}
_PLACES |= {"pipeline": {"digest"}}


def collect(
    config: Config, spec: FeatureSpec, *, run: str, data: str, dataset: str, model: str, root: Path | None = None
) -> dict[str, Any]:
    """The lineage record of a version.

    ``data``, ``dataset`` and ``model`` are content hashes: of the raw rows, of the training set and of
    the model bundle as trained; ``root`` is the folder of the code (default: this project).
    """
    root = root or project_root()
    return assemble(
        git(root),
        run=run,
        data=data,
        dataset=dataset,
        model=model,
        features=spec.hash,
        config=record_hash(config.model_dump(mode="json", exclude=_PLACES)),
        lock=content_hash(root / "uv.lock") if (root / "uv.lock").exists() else "",
        infrastructure=config.infrastructure,
    )


def assemble(
    revision: dict[str, Any],
    *,
    run: str,
    data: str,
    dataset: str,
    model: str,
    features: str,
    config: str,
    lock: str,
    infrastructure: Infrastructure,
) -> dict[str, Any]:
    """The record from its parts."""
    return {
        "run": run,
        "git_revision": revision["revision"],
        "git_dirty": revision["dirty"],
        "data_hash": data,
        "dataset_hash": dataset,
        "feature_hash": features,
        "config_hash": config,
        "lock_hash": lock,
        "model_hash": model,
        "stack": infrastructure.stack,
        "stack_update": infrastructure.update,
    }


def git(root: Path) -> dict[str, Any]:
    """Revision and dirty flag of the working tree at ``root``; "" and None when git cannot tell."""
    try:
        revision = _git(root, "rev-parse", "HEAD")
        return {"revision": revision, "dirty": bool(_git(root, "status", "--porcelain", "--untracked-files=normal"))}
    except (OSError, subprocess.SubprocessError):
        return {"revision": "", "dirty": None}


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.strip()
