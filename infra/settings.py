"""The settings of one platform stack: typed, frozen, unknown keys refused. The only reader of Pulumi's configuration.

Stacks differ only in these values; the program never asks for a stack's name. ``parse`` is pure, so that the
command line, the policies and the tests read the same settings without an engine.
What takes more than one key is in checks.py.
"""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, ValidationError, model_validator

from infra import checks
from infra.checks import explain as _explain
from seaway.config import Duration, Section
from seaway.errors import SeawayError

PROJECT = "seaway-platform"
FOLDER = Path(__file__).resolve().parent
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,40}[a-z0-9])?")
_QUANTITY = re.compile(r"\d+(\.\d+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?")


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(f"{text!r} is no name: lower-case letters, digits and '-', such as serving-prod")
    return text


def _quantity(text: str) -> str:
    if not _QUANTITY.fullmatch(text):
        raise ValueError(f"{text!r} is no quantity: write a number and a unit, such as 500m, 16 or 64Gi")
    return text


def _network(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError as error:
        raise ValueError(f"{error}: write a network such as 10.20.0.0/16") from None


def _place(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or "/" in host or not port.isdigit():
        raise ValueError(f"{text!r} is no place of a server: write host and port, such as redis.example.com:6379")
    return text


Name = Annotated[str, AfterValidator(_name)]
Quantity = Annotated[str, AfterValidator(_quantity)]
Network = Annotated[str, AfterValidator(_network)]
Place = Annotated[str, AfterValidator(_place)]


class Cluster(Section):
    """Where the platform goes: a stack of the program ``infra/cluster``, or a context that exists."""

    stack: str | None = None  # "organization/seaway-cluster/prod"
    context: str | None = None
    kubeconfig: str | None = None  # path of the context's file; None: KUBECONFIG, or ~/.kube/config
    identifier: str | None = None  # names the cluster behind the context: another one means another platform

    @model_validator(mode="after")
    def _one_of(self) -> Cluster:
        if bool(self.stack) == bool(self.context):
            raise ValueError("give either stack (of the program infra/cluster) or context (of a kubeconfig)")
        if self.context and not self.identifier:
            raise ValueError("give identifier beside context: it tells this cluster from any other")
        return self


class Sources(Section):
    """Where charts and images come from: upstream, unless a mirror is named."""

    charts: str | None = None  # mirror of all charts: "oci://…", "https://…" or a local folder of charts
    chart: dict[str, str] = Field(default_factory=dict)  # of single add-ons, by their name in versions.yaml
    pipelines: str | None = None  # of Kubeflow Pipelines: a kustomize folder or URL with its `manifests/kustomize`
    registry: str | None = None  # prefix put before the images of versions.yaml
    digests: bool = False  # refuse images that are named by a tag alone


class Quota(Section):
    """What a namespace may ask for altogether, and what a container gets that asks for nothing."""

    cpu: Quantity = "16"
    memory: Quantity = "64Gi"
    gpu: int = Field(default=0, ge=0)
    pods: int = Field(default=100, ge=1)
    claims: Quantity = "200Gi"
    default_cpu: Quantity = "500m"
    default_memory: Quantity = "512Mi"


class Tenancy(Section):
    """Namespaces of the users' own work; the add-ons' are in versions.yaml."""

    serving: tuple[Name, ...] = Field(min_length=1)  # released models
    training: Name = "training"  # RayJobs and other work that pipelines start
    quotas: dict[str, Quota]  # namespace -> quota; every namespace of a workload needs one
    viewers: tuple[str, ...] = ()  # groups of the identity provider
    engineers: tuple[str, ...] = ()
    admins: tuple[str, ...] = ()
    # CIDRs at which the API server answers to pods
    api_server: tuple[Network, ...] = Field(default=("0.0.0.0/0",), min_length=1)


class Availability(Section):
    replicas: int = Field(default=1, ge=1)  # of what serves requests and can be many
    disruption_budgets: bool = False
    protect: bool = False  # what holds data cannot be deleted by `pulumi destroy`, and outlives it

    @model_validator(mode="after")
    def _budget_needs_two(self) -> Availability:
        if self.disruption_budgets and self.replicas < 2:
            raise ValueError("disruption_budgets needs replicas of at least 2: with one no node could be drained")
        return self


class Gpu(Section):
    """One pool of accelerators: with it come the device plugin, Kueue and a queue."""

    count: int = Field(ge=1)  # most devices at work at once
    flavor: str = "gpu-spot"
    node_labels: dict[str, str] = Field(default_factory=lambda: {"seaway.dev/pool": "gpu"})
    queue: Name = "gpu"
    device_plugin: bool = True  # False where the cloud installs it


class Redis(Section):
    """The online store. External: ``host``; its password is the Pulumi secret ``redisPassword``."""

    host: Place | None = None  # "redis.example.com:6379"; None: one of our own in the cluster
    tls: bool = False
    storage: Quantity = "8Gi"
    memory: Quantity = "1Gi"
    append_only: bool = True


class Database(Section):
    """Postgres of the tracking server. External: ``host``; its password is the Pulumi secret ``databasePassword``."""

    host: Place | None = None  # "db.example.com:5432"; None: one of our own in the cluster
    user: str = "mlflow"
    name: str = "mlflow"
    storage: Quantity = "10Gi"


class Objects(Section):
    """Object storage for data, artifacts, bundles. External: ``uri``; in the cluster: the one of Kubeflow Pipelines."""

    uri: str | None = None  # "s3://bucket/prefix" or "gs://…"
    endpoint: str | None = None  # of an S3-compatible server that is not the cloud's
    region: str | None = None
    workload_identity: bool = True  # external: pods get rights by their service account, not by a key
    role: str | None = None  # … of this cloud role (EKS: ARN; GKE: service account e-mail)


class Gateway(Section):
    host: str = "*"
    tls_secret: str | None = None  # in istio-system; None: plain HTTP
    kind: Literal["LoadBalancer", "NodePort", "ClusterIP"] = "LoadBalancer"


class Monitoring(Section):
    retention: Duration = "7d"
    storage: Quantity = "20Gi"
    opencost: bool = False


class Controller(Section):
    """Seaway's release controller. The image is that of ``config/<env>.yaml`` (serving.controller_image)."""

    storage: Quantity = "2Gi"


class Budget(Section):
    monthly_usd: float = Field(gt=0)


class Settings(Section):
    env: Name  # config/<env>.yaml is read by what runs on this platform
    cluster: Cluster
    sources: Sources = Sources()
    tenancy: Tenancy
    availability: Availability = Availability()
    gpu: Gpu | None = None
    redis: Redis = Redis()
    database: Database = Database()
    objects: Objects = Objects()
    gateway: Gateway = Gateway()
    monitoring: Monitoring = Monitoring()
    controller: Controller = Controller()
    budget: Budget
    production: bool = False  # the policies then demand protection, replicas, digests and a key service for secrets
    addons: bool = True  # third-party operators; False: only what is ours, on a cluster that has them


def parse(data: Any, where: str = "the stack's settings") -> Settings:
    """Settings from plain data; SeawayError naming each bad key, its value and what to do."""
    try:
        settings = Settings.model_validate(data)
    except ValidationError as error:
        problems = [_explain(problem, Settings) for problem in error.errors()]
    else:
        problems = checks.of_settings(settings)
    checks.refuse(problems, where)
    return settings


def of_stack(env: str, folder: Path = FOLDER) -> Settings:
    """The settings in Pulumi.<env>.yaml, without an engine; SeawayError where there is no such stack."""
    file = folder / f"Pulumi.{env}.yaml"
    if not file.exists():
        known = ", ".join(sorted(p.name.split(".")[1] for p in folder.glob("Pulumi.*.yaml")))
        raise SeawayError(f"there is no stack {env!r} ({file}); there are: {known}")
    config = (yaml.safe_load(file.read_text()) or {}).get("config", {})
    return parse(config.get(f"{PROJECT}:settings"), str(file))


def read() -> Settings:
    """The settings of the stack that Pulumi runs."""
    import pulumi

    where = f"the settings in Pulumi.{pulumi.get_stack()}.yaml"
    settings = parse(pulumi.Config().get_object("settings"), where)
    checks.refuse(checks.of_site(settings, FOLDER / f"Pulumi.{pulumi.get_stack()}.yaml"), where)
    return settings
