"""The one configuration: typed, frozen, unknown keys refused.

``load(env)`` merges ``config/base.yaml``, ``config/<env>.yaml`` and the workload's own file.
Environments differ only in these files; code never branches on an environment's name.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from seaway.errors import SeawayError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def duration(text: str) -> timedelta:
    """``"90s"``, ``"15m"``, ``"6h"`` or ``"7d"`` as a timedelta; ValueError for anything else."""
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if not match:
        raise ValueError(f"{text!r} is not a duration; write a number and s, m, h or d, such as 7d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


class Section(BaseModel):
    """A frozen part of the configuration; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Column(Section):
    """The contract of one column of a source."""

    type: Literal["int", "float", "str", "datetime"]
    minimum: float | datetime | None = None
    maximum: float | datetime | None = None
    allowed: tuple[int | float | str, ...] | None = None
    nullable: bool = False


class Source(Section):
    """One table of events: where it comes from and what its rows must look like."""

    path: str | None = None  # Parquet or CSV; file, folder or glob. None: ask the generator
    generator: str | None = None  # "module:function"(scale: dict, out: Path)
    id: str | None = None  # unique row id column, if there is one
    time: str  # event time column, UTC
    columns: dict[str, Column]


class Label(Section):
    column: str
    delay: str = "0d"  # after the event, until the label is known

    @field_validator("delay")
    @classmethod
    def _is_duration(cls, value: str) -> str:
        duration(value)
        return value


class Split(Section):
    """Lengths, counted back from the end of the data: sweep | delay | valid | train | delay | test | replay."""

    train: str = "28d"
    valid: str = "7d"
    test: str = "7d"
    replay: str = "7d"

    @field_validator("*")
    @classmethod
    def _is_duration(cls, value: str) -> str:
        duration(value)
        return value


class Segment(Section):
    """Rows grouped by a column of the data set: by cut points, by hour bands or by value."""

    name: str
    column: str
    cuts: tuple[float, ...] | None = None
    hours: tuple[int, ...] | None = None


class Parameter(Section):
    """One dimension of the search space."""

    kind: Literal["choice", "float", "log_float", "int"]
    values: tuple[int | float | str, ...] | None = None
    low: float | None = None
    high: float | None = None


class Sweep(Section):
    space: dict[str, Parameter]
    metric: str = "average_precision"
    trials: int = 8
    max_epochs: int = 20
    grace_epochs: int = 4
    seed: int = 0


class Gates(Section):
    """What a candidate must reach on held-out rows before it may be released."""

    metric: str = "average_precision"
    minimum: dict[str, float] = Field(default_factory=dict)
    max_regression: float = 0.02  # against the champion on the same rows, lower bound of the interval
    max_segment_regression: float = 0.10
    min_segment_rows: int = 500
    min_positives: int = 30
    bootstrap: int = 200


class Workload(Section):
    """All that is particular to one prediction problem."""

    name: str
    root: str = "."  # folder, relative to this file, from which the hooks below are imported
    source: str  # the name of the main source in `sources`
    sources: dict[str, Source]
    scales: dict[str, dict[str, Any]] = Field(default_factory=dict)  # sizes of the generated data
    scale: str | None = None  # the one that is generated unless another is asked for
    entities: dict[str, str]  # entity name -> join key column
    label: Label
    feature_repo: str  # folder with the Feast definitions, relative to root
    features: str  # "module:OBJECT", a seaway.features.FeatureSpec
    model: str  # "module": build(params, mean, std) -> torch.nn.Module of raw float32 features to logits
    split: Split = Split()
    quarantine_limit: float = 0.01
    segments: tuple[Segment, ...] = ()
    top_k: dict[str, Any] = Field(default_factory=dict)  # {entity: name, k: 100}: precision of the k riskiest a day
    sweep: Sweep
    gates: Gates = Gates()
    protocols: dict[str, str] = Field(default_factory=dict)  # evaluation protocol -> "module:function"


class Guardrail(Section):
    """Two opposite hypotheses on one rate: worse by at least `margin`, and no worse."""

    margin: float = Field(gt=0, lt=1)
    slo_ms: float | None = None  # latency only: requests slower than this count


class Release(Section):
    rate: float = 60.0  # requests a second, replayed
    requests: int = 20000  # at the most, a release
    ramp: tuple[int, ...] = (10, 25, 50)
    block: str = "1s"
    cap: str = "240s"
    alpha_promote: float = 0.05
    alpha_rollback: float = 0.05
    guardrails: dict[Literal["errors", "latency", "decisions_up", "decisions_down"], Guardrail]


class OnlineStore(Section):
    type: Literal["sqlite", "redis"] = "sqlite"
    connection: str | None = None  # redis "host:port[,ssl=true,...]"


class Serving(Section):
    namespace: str = "default"
    image: str = "seaway-serve:dev"
    timeout_ms: int = 2000
    replicas: int = 1


class StepResources(Section):
    cpu: str = "1"
    memory: str = "2Gi"
    gpu: int = 0


class Pipeline(Section):
    image: str = "seaway-train-python:dev"
    resources: dict[str, StepResources] = Field(default_factory=dict)
    retries: int = 0


class Compute(Section):
    device: Literal["auto", "cpu", "cuda"] = "auto"
    cpus: int | None = None  # None: what the machine has


class Config(Section):
    env: str
    home: Path = Path(".seaway")
    tracking_uri: str | None = None  # None: an SQLite file in home
    scale: str = ""  # a name from the workload's scales; empty: the workload's own choice
    online_store: OnlineStore = OnlineStore()
    compute: Compute = Compute()
    pipeline: Pipeline = Pipeline()
    serving: Serving = Serving()
    release: Release
    workload: Workload
    workload_file: Path

    @property
    def root(self) -> Path:
        """Absolute folder from which the workload's hooks are imported."""
        return (self.workload_file.parent / self.workload.root).resolve()


def project_root() -> Path:
    return Path(__file__).resolve().parent.parent


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
    merged = _merge(_read(folder / "base.yaml"), _read(folder / f"{env}.yaml", known=_environments(folder)))
    named = merged.pop("workload", None)
    file = Path(workload) if workload else folder / str(named)
    merged["workload"] = _read(file)
    merged = _merge(merged, overrides or {})
    merged |= {"env": env, "workload_file": file.resolve()}
    try:
        config = Config.model_validate(merged)
    except ValidationError as error:
        raise SeawayError(_explain(error, folder, env, file)) from None
    home = config.home if config.home.is_absolute() else project_root() / config.home
    return config.model_copy(update={"home": home, "scale": config.scale or config.workload.scale or ""})


def _environments(folder: Path) -> list[str]:
    return sorted(p.stem for p in folder.glob("*.yaml") if p.stem != "base")


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


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


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
