"""The one configuration: typed, frozen, unknown keys refused.

``load(env)`` merges ``config/base.yaml``, ``config/<env>.yaml`` and the workload's own file.
Environments differ only in these files; code never branches on an environment's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError, field_validator

from seaway.config.base import Duration, Section, StepResources, duration, no_login
from seaway.config.places import (
    Budget,
    Compute,
    Data,
    Infrastructure,
    OnlineStore,
    Pipeline,
    Ray,
    Scoring,
    Serving,
    Storage,
    Training,
    Trust,
)
from seaway.config.release import Guardrail, Labels, PairName, RateName, Release
from seaway.config.workload import (
    Column,
    Gates,
    Label,
    Parameter,
    Segment,
    Slices,
    Source,
    Split,
    Stop,
    Sweep,
    Workload,
)
from seaway.errors import SeawayError

__all__ = [
    "Budget",
    "Column",
    "Compute",
    "Config",
    "Data",
    "Duration",
    "Gates",
    "Guardrail",
    "Infrastructure",
    "Label",
    "Labels",
    "OnlineStore",
    "PairName",
    "Parameter",
    "Pipeline",
    "RateName",
    "Ray",
    "Release",
    "Scoring",
    "Section",
    "Segment",
    "Serving",
    "Slices",
    "Source",
    "Split",
    "StepResources",
    "Stop",
    "Storage",
    "Sweep",
    "Training",
    "Trust",
    "Workload",
    "duration",
    "load",
    "merged",
    "project_root",
]


class Config(Section):
    env: str
    home: Path = Path(".seaway")
    tracking_uri: str | None = None  # None: an SQLite file in home
    scale: str = ""  # a name from the workload's scales; empty: the workload's own choice
    online_store: OnlineStore = OnlineStore()
    storage: Storage = Storage()
    compute: Compute = Compute()
    ray: Ray = Ray()
    training: Training = Training()
    data: Data = Data()
    scoring: Scoring = Scoring()
    budget: Budget = Budget()
    pipeline: Pipeline = Pipeline()
    infrastructure: Infrastructure = Infrastructure()
    serving: Serving = Serving()
    trust: Trust = Trust()
    release: Release
    workload: Workload
    workload_file: Path

    _login = field_validator("tracking_uri")(no_login)

    @property
    def root(self) -> Path:
        """Absolute folder from which the workload's hooks are imported."""
        return (self.workload_file.parent / self.workload.root).resolve()


def project_root() -> Path:
    return Path(__file__).resolve().parent.parent.parent


def load(
    env: str = "local",
    *,
    workload: Path | None = None,
    overrides: dict[str, Any] | None = None,
    folder: Path | None = None,
) -> Config:
    """Merge base, environment and workload files, then ``overrides`` (nested dict), and check all.

    Raises SeawayError naming the file and the key for an unreadable file, unknown key or bad value.
    """
    folder = folder or project_root() / "config"
    found = merged(_read(folder / "base.yaml"), _read(folder / f"{env}.yaml", known=_environments(folder)))
    named = found.pop("workload", None)
    file = Path(workload) if workload else folder / str(named)
    found["workload"] = _read(file)
    found = merged(found, overrides or {})
    found |= {"env": env, "workload_file": file.resolve()}
    try:
        config = Config.model_validate(found)
    except ValidationError as error:
        raise SeawayError(_explain(error, folder, env, file)) from None
    home = config.home if config.home.is_absolute() else project_root() / config.home
    return config.model_copy(update={"home": home, "scale": config.scale or config.workload.scale or ""})


def _environments(folder: Path) -> list[str]:
    return sorted(p.stem for p in folder.glob("*.yaml") if p.stem not in ("base", "prices", "workload"))


def _read(file: Path, known: list[str] | None = None) -> dict[str, Any]:
    try:
        text = file.read_text()
    except FileNotFoundError:
        hint = f"; there are: {', '.join(known)}" if known else ""
        raise SeawayError(f"configuration file {file} does not exist{hint}") from None
    try:
        data = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise SeawayError(f"{file} is not valid YAML: {error}") from None
    if not isinstance(data, dict):
        raise SeawayError(f"{file} must hold keys and values, not a {type(data).__name__}")
    return data


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the keys of ``over``, mappings key by key."""
    made = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(made.get(key), Mapping)
        made[key] = merged(made[key], value) if both else value
    return made


def _explain(error: ValidationError, folder: Path, env: str, workload: Path) -> str:
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        file = workload.name if where.startswith("workload.") else f"base.yaml or {env}.yaml"
        if problem["type"] == "extra_forbidden":
            lines.append(f"unknown key {where!r} in {file}: remove it or correct its spelling")
        elif problem["type"] == "missing":
            lines.append(f"key {where!r} is missing in {file}: add it")
        else:
            lines.append(f"key {where!r} in {file}: {problem['msg']} (value: {problem['input']!r})")
    return f"the configuration in {folder} is not valid:\n  " + "\n  ".join(lines)
