"""Where and with what things run: stores, pipeline, Ray, servers, keys; what compute may cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from seaway.config.base import Duration, Section, StepResources, no_login
from seaway.errors import SeawayError


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

    _login = field_validator("endpoint")(no_login)


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

    _login = field_validator("prometheus", "url")(no_login)


class Trust(Section):
    """Keys of model signatures (OpenSSF model-signing with plain elliptic-curve keys, PEM files)."""

    private_key: str | None = None  # signs at registration; None: home/keys/model.pem, made at first use
    public_key: str | None = None  # is trusted when a model is loaded or promoted; None: home/keys/model.pub


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

    _login = field_validator("host", "ui")(no_login)


class Ray(Section):
    """Where trials, workers and partitions run: a Ray of the step's own, one that is there, or a RayJob of KubeRay."""

    substrate: Literal["local", "address", "kuberay"] = "local"
    address: str | None = None  # address: of the Ray that is there, such as 10.0.0.5:6379, or auto
    dashboard: str | None = None  # base URL of its pages, for links
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

    _login = field_validator("dashboard")(no_login)

    @model_validator(mode="after")
    def _an_address(self) -> Ray:
        if self.substrate == "address" and not self.address:
            raise ValueError("substrate address needs ray.address, such as 10.0.0.5:6379, or auto")
        return self


class Training(Section):
    """How the final model is trained: by so many workers, each with these resources, on equal parts of every batch."""

    workers: int = Field(default=1, ge=1)
    resources: StepResources = StepResources(cpu="1", memory="2Gi")
    retries: int = Field(default=2, ge=0)  # of all workers together, after one was lost


class Data(Section):
    """How features and data sets are computed: all rows at once, in parts of this machine, or in parts on Ray."""

    engine: Literal["memory", "partitions", "ray"] = "memory"
    incremental: bool = True  # take over the days that nothing new has changed


class Scoring(Section):
    """Batch scoring: what `seaway score` and pipelines/batch_score.py do with a table of features."""

    version: str = "champion"  # or the number of one
    out: str | None = None  # folder or storage URI; None: scores/ of the storage, or of home
    start: str | None = None  # the first day that is scored, such as 2018-04-01, UTC; None: all
    end: str | None = None  # the first day after those
    explain: Literal["no", "decided", "all"] = "no"  # rows that get reasons; each costs hundreds of scores
    log: bool = False  # write predictions as the lines of a server's log too
    batch: int = Field(default=1024, ge=1)  # rows at a time: more do not fit a core's cache
    workers: int | None = Field(default=None, ge=1)  # None: one a CPU


class Budget(Section):
    """What compute costs, and how much of it may be spent. USD."""

    machine: str | None = None  # of config/prices.yaml, whose price is then split by `cpus`; None: the prices below
    cloud: str | None = None
    region: str | None = None
    spot: bool = False
    cpus: int = Field(default=1, ge=1)  # of that machine
    gpus: int = Field(default=0, ge=0)  # of that machine; a GPU's part of it counts where it is the larger one
    accelerator: str | None = None  # what those GPUs are called where they are sold beside the machine
    cpu_hour: float = Field(default=0.0, ge=0)
    gpu_hour: float = Field(default=0.0, ge=0)
    ask_above: float = Field(default=5.0, ge=0)  # an estimate above it must be agreed to
    limit: float | None = Field(default=None, gt=0)  # a sweep ends before it costs more

    @model_validator(mode="after")
    def _one_source_of_prices(self) -> Budget:
        if self.machine and not (self.cloud and self.region):
            raise ValueError("machine needs cloud and region, under which config/prices.yaml has its price")
        if self.machine and (self.cpu_hour or self.gpu_hour):
            raise ValueError("give machine, or cpu_hour and gpu_hour, not both")
        if self.accelerator and not (self.machine and self.gpus):
            raise ValueError("accelerator needs machine, and gpus: how many of them the machine has")
        return self


class Infrastructure(Section):
    """The platform that a run or a release is on: told by the platform itself, not written in a file."""

    stack: str = "local"  # Pulumi's, such as organization/seaway-platform/prod
    update: str = ""  # number of the update that made it so
    digest: str = ""  # of its settings, versions and program


class Compute(Section):
    device: Literal["auto", "cpu", "cuda"] = "auto"
    cpus: int | None = None  # None: what the machine has
