"""The one configuration: typed, frozen, unknown keys refused.

``load(env)`` merges ``config/base.yaml``, ``config/<env>.yaml`` and the workload's own file.
Environments differ only in these files; code never branches on an environment's name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from seaway.errors import SeawayError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def duration(text: str) -> timedelta:
    """``"90s"``, ``"15m"``, ``"6h"`` or ``"7d"`` as a timedelta; ValueError for anything else."""
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if not match:
        raise ValueError(f"{text!r} is not a duration; write a number and s, m, h or d, such as 7d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _checked(text: str) -> str:
    duration(text)
    return text


Duration = Annotated[str, AfterValidator(_checked)]


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
    delay: Duration = "0d"  # after the event, until the label is known


class Split(Section):
    """Lengths, counted back from the end of the data: sweep | delay | valid | train | delay | test | replay."""

    train: Duration = "28d"
    valid: Duration = "7d"
    test: Duration = "7d"
    replay: Duration = "7d"


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
    """Two opposite hypotheses on one rate or mean: worse by at least `margin`, and no worse than `tolerance`."""

    margin: float = Field(gt=0, lt=1)
    tolerance: float | None = Field(default=None, ge=0, lt=1)  # None: none for errors, half the margin for the others
    slo_ms: float | None = None  # latency only: requests slower than this count
    cluster: int | None = Field(default=None, ge=1)  # outcomes that may depend on each other; None: estimated


class Labels(Section):
    """The second stage: losses of both models on the same requests, as their labels become known."""

    loss: Literal["brier", "log"] = "log"
    clip: float = Field(default=0.01, gt=0, lt=0.5)  # log loss: probabilities nearer to 0 or 1 count as this near
    positive_weight: float = Field(default=1.0, gt=0)  # of a positive label against a negative one
    margin: float = Field(gt=0, lt=1)  # of the mean loss difference, losses scaled to 0..1
    tolerance: float = Field(default=0.0, ge=0, lt=1)
    holdback: int = Field(default=5, ge=1, le=50)  # percent that the old champion keeps until labels have confirmed
    wait: Duration = "30d"  # provisional at the longest; then rolled back
    feed: str | None = None  # folder of label files; None: home/labels
    key_file: str | None = None  # the key that signs label entries; None: home/keys/labels.key, made at first use


RateName = Literal["errors", "latency", "decisions_up", "decisions_down"]
PairName = Literal["flips", "score_shift"]


class Release(Section):
    rate: float = 60.0  # requests a second, replayed
    requests: int = 20000  # at the most, a release
    ramp: tuple[int, ...] = (10, 25, 50)
    block: Duration = "1s"
    cap: Duration = "240s"
    alpha_promote: float = 0.05
    alpha_rollback: float = 0.05
    guardrails: dict[RateName | PairName, Guardrail]
    labels: Labels | None = None
    mirror: int = Field(default=0, ge=0, le=100)  # percent of requests that a shadow of the candidate scores too
    crashes: int = Field(default=0, ge=0)  # how many more times than the stable the canary may crash
    split_tolerance: float = Field(default=0.02, gt=0, lt=1)  # how far the observed split may be from the weights

    @model_validator(mode="after")
    def _pairs_need_a_mirror(self) -> Release:
        needing = [name for name in ("flips", "score_shift") if name in self.guardrails]
        needing += ["labels"] if self.labels else []
        if needing and not self.mirror:
            raise ValueError(f"{', '.join(needing)} compare both models on the same requests: set release.mirror")
        return self


def _no_login(address: str | None, info: ValidationInfo) -> str | None:
    """Addresses stand in compiled pipelines, manifests and messages."""
    if address and "@" in urlsplit(address).netloc:
        # no ValueError: that one is told with the value
        raise SeawayError(
            f"key {info.field_name!r} holds a login, which manifests and messages would show: take it out; logins come "
            "by the environment, such as MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    return address


class OnlineStore(Section):
    type: Literal["sqlite", "redis"] = "sqlite"
    connection: str | None = None  # redis "host:port[,ssl=true,...]"; no password: it would stand in released objects
    password_secret: str | None = None  # kubernetes: Secret whose key `password` the pods get as SEAWAY_REDIS_PASSWORD

    @field_validator("connection")
    @classmethod
    def _no_password(cls, connection: str | None) -> str | None:
        if connection and "password=" in connection.lower():
            # no ValueError: that one is told with the value
            raise SeawayError(
                "key 'online_store.connection' holds a password, which files and released objects would show: "
                "take it out and set SEAWAY_REDIS_PASSWORD in the environment (pods: online_store.password_secret)"
            )
        return connection


class Storage(Section):
    """Object storage for data, step results, bundles and releases: what pods share. None: files below home."""

    uri: str | None = None  # "s3://bucket/prefix", "gs://…", or "file:///…" for tests
    endpoint: str | None = None  # of an S3-compatible server that is not the cloud's
    region: str | None = None
    secret: str | None = None  # Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; None: workload identity

    _login = field_validator("endpoint")(_no_login)


class Serving(Section):
    substrate: Literal["local", "kubernetes"] = "local"
    namespace: str = "default"
    image: str = "seaway-serve:dev"
    controller_image: str = "seaway-controller:dev"
    timeout_ms: int = 2000
    replicas: int = 1
    context: str | None = None  # kubernetes: of the kubeconfig; None: the current one, or the pod's own account
    prometheus: str | None = None  # kubernetes: base URL of the server that has the gateway's and the pods' counters
    scrape: Duration = "15s"  # kubernetes: how often it scrapes them; what is older than three of these is stale
    controller_namespace: str = "seaway-system"  # kubernetes: where the release controller runs
    gateway: str = "istio-ingressgateway"  # kubernetes: workload whose pods count what callers get
    url: str | None = None  # kubernetes: base address at which that gateway answers; None: not told in `status`
    mounts: dict[str, dict[str, Any]] = Field(default_factory=dict)  # kubernetes: folder -> volume source
    # folder or storage URI for prediction logs, as the servers see it; None: home/answers, or on kubernetes with
    # storage its answers/
    log: str | None = None
    service_account: str | None = None  # kubernetes: of the servers' pods; its workload identity reaches the storage
    trust: str | None = None  # kubernetes: ConfigMap whose model.pub the pods trust; None: mounts hold trust.public_key

    _login = field_validator("prometheus", "url")(_no_login)


class Trust(Section):
    """Keys of model signatures (OpenSSF model-signing with plain elliptic-curve keys, PEM files)."""

    private_key: str | None = None  # signs at registration; None: home/keys/model.pem, made at first use
    public_key: str | None = None  # is trusted when a model is loaded or promoted; None: home/keys/model.pub


class StepResources(Section):
    cpu: str = Field(default="1", pattern=r"^(\d+(\.\d+)?|\d+m)$")  # cores, or thousandths of one
    memory: str = "2Gi"
    gpu: int = 0


class Pipeline(Section):
    """Where and how the pipeline's steps run. Without ``host`` they are processes of this machine."""

    image: str = "seaway-train:dev"
    digest: str = ""  # SHA-256 of the compiled pipeline: told by whoever compiles it, not written in a file
    resources: dict[str, StepResources] = Field(default_factory=dict)
    retries: int = 0
    host: str | None = None  # base URL of the Kubeflow Pipelines API
    ui: str | None = None  # base URL of its pages, for links; None: host
    namespace: str = "kubeflow"
    experiment: str = "seaway"
    service_account: str = "pipeline-runner"
    token_file: Path | None = None  # a bearer token for the API, such as a projected service account token
    ca_file: Path | None = None  # certificates that the API's own is checked with
    timeout: Duration = "6h"  # of following a run; the run itself goes on
    spot: bool = False  # steps tolerate nodes that may be taken away
    queue: str | None = None  # Kueue's LocalQueue of what needs a GPU
    poll: Duration = "5s"

    _login = field_validator("host", "ui")(_no_login)


class Ray(Section):
    """Where a sweep's trials run: a Ray of the step's own, or a RayJob of the KubeRay operator."""

    substrate: Literal["local", "kuberay"] = "local"
    image: str = "seaway-train:dev"
    version: str = "2.60.0"
    namespace: str = "training"
    context: str | None = None  # of the kubeconfig; None: the current one, or the pod's own account
    service_account: str = "seaway-ray"
    head: StepResources = StepResources(cpu="1", memory="4Gi")
    worker: StepResources = StepResources(cpu="2", memory="4Gi")
    workers: int = Field(default=1, ge=1)
    max_workers: int | None = None  # more than workers: the autoscaler may add them
    spot: bool = False
    queue: str | None = None  # Kueue's LocalQueue
    deadline: Duration = "4h"  # of the whole job; then it is ended
    poll: Duration = "5s"


class Infrastructure(Section):
    """The platform that a run or a release is on: told by the platform itself, not written in a file."""

    stack: str = "local"  # Pulumi's, such as organization/seaway-platform/prod
    update: str = ""  # number of the update that made it so
    digest: str = ""  # of its settings, versions and program


class Compute(Section):
    device: Literal["auto", "cpu", "cuda"] = "auto"
    cpus: int | None = None  # None: what the machine has


class Config(Section):
    env: str
    home: Path = Path(".seaway")
    tracking_uri: str | None = None  # None: an SQLite file in home
    scale: str = ""  # a name from the workload's scales; empty: the workload's own choice
    online_store: OnlineStore = OnlineStore()
    storage: Storage = Storage()
    compute: Compute = Compute()
    ray: Ray = Ray()
    pipeline: Pipeline = Pipeline()
    infrastructure: Infrastructure = Infrastructure()
    serving: Serving = Serving()
    trust: Trust = Trust()
    release: Release
    workload: Workload
    workload_file: Path

    _login = field_validator("tracking_uri")(_no_login)

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
