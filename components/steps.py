"""What each step consists of: its function, the configuration it reads, the workload's code it calls.

The step cache and `seaway run --explain` work from this table. A test compares ``reads`` with the steps'
source, so that a step cannot come to depend on a key that its cache does not know of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seaway.config import Config

State = Callable[[Config, dict[str, str]], dict[str, Any]]


@dataclass(frozen=True)
class Step:
    """One step of the train.

    ``state`` gives what else the result depends on and lies outside configuration and inputs (source
    files, the registry's champion), from the hashes of the inputs. ``holds`` says whether a stored result
    is still good (a registered version may have been deleted).
    """

    function: str  # "module:function"
    reads: tuple[str, ...]  # sections of the configuration
    hooks: tuple[str, ...] = ()  # keys of the workload that name modules or folders of its own code
    state: State | None = None
    holds: Callable[[Config, dict[str, Path]], str] | None = None  # empty, or why it is not good any more


def source_files(config: Config, _: dict[str, str]) -> dict[str, Any]:
    """Content hash of every file that the sources name, an object's tag in storage; a generator has none."""
    from components.ingest.remote import objects
    from components.ingest.step import find
    from seaway.artifacts import content_hash
    from seaway.storage import Storage, is_uri

    remote = {
        f"content of {name}: {label}": found.tag or f"{found.size} bytes of {found.written.isoformat()}"
        for name, source in config.workload.sources.items()
        if source.path and is_uri(source.path)
        for label, found in objects(name, source.path, Storage.of(config)).items()
    }
    return remote | {
        f"content of {name}: {file}": content_hash(path)
        for name, source in config.workload.sources.items()
        if source.path and not is_uri(source.path)
        for file, path in find(name, source.path, config.root).items()
    }


def trials_at_a_time(config: Config, _: dict[str, str]) -> dict[str, Any]:
    """How many trials a cluster runs side by side: later ones are suggested from those that have ended."""
    from components.ray.needs import slots_of_job

    return {"trials at a time": slots_of_job(config)} if config.ray.substrate == "kuberay" else {}


def champion(config: Config, inputs: dict[str, str]) -> dict[str, Any]:
    """The version that the candidate is compared with."""
    from seaway.registry import Registry

    record = Registry.of(config).rival(inputs["model"])
    return {"champion": record.version if record else None}


def scoring_version(config: Config, _: dict[str, str]) -> dict[str, Any]:
    """The version that scores, by what was signed: the champion may be another one next time."""
    from seaway.registry import SIGNED, Registry

    found = Registry.of(config).find(config.scoring.version)
    return {"scoring version": f"{found.version} {found.tags.get(SIGNED, '')}" if found else None}


def scored(config: Config, outputs: dict[str, Path]) -> str:
    """The rows lie outside of the step's result: they must still be there, all of them."""
    from components.score.partition import known, whole
    from components.score.step import destination
    from seaway.artifacts import read_json

    place, summary = destination(config), read_json(outputs["out"] / "summary.json")
    gone = [name for name in summary["names"] if not whole(place, known(place, name))]
    return f"{len(gone)} of {len(summary['names'])} partitions are not in {place.name()} any more" if gone else ""


def feast_registry(config: Config, _: dict[str, Path]) -> str:
    """The feature store's registry must exist beside the data set; but the home of a pod ends with it."""
    if config.pipeline.host:
        return ""
    file = config.home / "feast" / "registry.db"
    return "" if file.exists() else f"{file} is gone"


def registered(config: Config, outputs: dict[str, Path]) -> str:
    """The version must still be in the registry, with its files, signed."""
    from seaway.artifacts import read_json
    from seaway.registry import Registry

    version = read_json(outputs["out"] / "version.json")["version"]
    registry = Registry.of(config)
    record = registry.find(version)
    return registry.unsound(record) if record else f"version {version} is not in the registry any more"


def within_budget(config: Config, outputs: dict[str, Path]) -> str:
    """A sweep that its budget ended goes on when the limit is another; one that ran to its end has no limit in it."""
    from components.tune.budget import at_limit
    from seaway.artifacts import read_json

    limit, ended = config.budget.limit, read_json(outputs["out"] / "best.json").get("ended", "")
    if not ended.startswith(at_limit()) or (limit and ended.startswith(at_limit(limit))):
        return ""
    return "the sweep was ended by a budget.limit that is another now"


def looked_at(config: Config, _: dict[str, Path]) -> str:
    """On a cluster every run looks at the released object: to enter a release again changes nothing."""
    return "" if config.serving.substrate == "local" else "the released object may have changed"


_TABLE = ("workload.name", "workload.source", "workload.sources", "workload.entities", "workload.label")

STEPS: dict[str, Step] = {
    "ingest": Step(
        "components.ingest.step:ingest",
        reads=("scale", "workload.name", "workload.source", "workload.sources", "workload.scales", "data.engine"),
        hooks=("generators",),
        state=source_files,
    ),
    "validate": Step("components.validate.step:validate", reads=(*_TABLE, "workload.quarantine_limit", "data.engine")),
    "features": Step("components.features.step:features", reads=(*_TABLE, "data.engine"), hooks=("features",)),
    "dataset": Step(
        "components.dataset.step:dataset",
        reads=(*_TABLE, "workload.split", "workload.feature_repo", "data.engine"),
        hooks=("features", "feature_repo"),
        holds=feast_registry,
    ),
    "tune": Step(
        "components.tune.step:tune",
        reads=(
            *(*_TABLE, "workload.split", "workload.sweep", "workload.model", "workload.top_k", "compute"),
            "tracking_uri",  # earlier sweeps' best points come from there
        ),
        hooks=("features", "model"),
        state=trials_at_a_time,
        holds=within_budget,
    ),
    "train": Step(
        "components.train.step:train",
        reads=(
            *_TABLE,
            *("workload.split", "workload.sweep", "workload.model", "workload.top_k", "compute"),
            *("workload.slices", "training.workers", "training.resources"),
        ),
        hooks=("features", "model"),
    ),
    "evaluate": Step(
        "components.evaluate.step:evaluate",
        reads=(
            *_TABLE,
            *("workload.split", "workload.gates", "workload.segments", "workload.top_k", "workload.sweep", "compute"),
        ),
        hooks=("features",),
        state=champion,
    ),
    "register": Step(
        "components.register.step:register",
        reads=(
            *("workload.name", "tracking_uri", "trust", "storage", "infrastructure", "env"),
            *("pipeline.image", "pipeline.digest", "serving.image", "serving.controller_image"),
        ),
        state=champion,
        holds=registered,
    ),
    "release": Step("components.release.step:request", reads=("workload.name",)),
    "score": Step(
        "components.score.step:score",
        reads=(
            *("scoring", "workload.name", "workload.source", "workload.sources"),
            *("tracking_uri", "trust", "serving.trust", "compute"),
        ),
        hooks=("features",),
        state=scoring_version,
        holds=scored,
    ),
    "start": Step(
        "pipelines.start:start",
        reads=(
            *("serving", "release", "online_store", "trust", "tracking_uri", "infrastructure"),
            *_TABLE,
            "workload.feature_repo",
        ),
        hooks=("features", "feature_repo"),
        holds=looked_at,
    ),
}
