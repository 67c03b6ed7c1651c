"""The settings of one cluster stack: typed, frozen, unknown keys refused. Stacks differ only in these values."""

from __future__ import annotations

import re
from ipaddress import IPv4Network
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, ValidationError, model_validator

from infra import checks
from infra.settings import Name
from infra.settings import Network as Cidr
from seaway.config import Section

PROJECT = "seaway-cluster"
FOLDER = Path(__file__).resolve().parent
GPU_TAINT = {"nvidia.com/gpu": "true"}
SPOT_TAINT = {"seaway.dev/spot": "true"}


def _version(text: str) -> str:
    if not re.fullmatch(r"1\.\d\d", text):
        raise ValueError(f"{text!r} is no Kubernetes version: write major and minor in quotes, such as '1.34'")
    return text


class Pool(Section):
    """Equal nodes, labelled ``seaway.dev/pool: <its name>``; those with GPUs and spot nodes are tainted."""

    machine: str
    min: int = Field(ge=0)
    max: int = Field(ge=1)
    hours: float | None = Field(default=None, ge=0, le=744)  # a month, of each node above min: for the estimate
    spot: bool = False
    disk_gb: int = Field(default=100, ge=20)
    gpu: int = Field(default=0, ge=0)  # of each node
    accelerator: str | None = None  # GKE: type of these GPUs, such as nvidia-l4

    @model_validator(mode="after")
    def _possible(self) -> Pool:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}: lower it, or raise max")
        return self

    @property
    def taints(self) -> dict[str, str]:
        """Key -> value; the effect is NoSchedule."""
        return {**(GPU_TAINT if self.gpu else {}), **(SPOT_TAINT if self.spot else {})}

    def labels(self, name: str) -> dict[str, str]:
        return {"seaway.dev/pool": name, **(SPOT_TAINT if self.spot else {})}


class Network(Section):
    """One of our own, or by ``vpc`` and subnets one that exists."""

    vpc: str | None = None  # EKS: VPC id; GKE: network
    private_subnets: tuple[str, ...] = ()  # of the nodes; GKE: one subnetwork, whose ranges are "pods" and "services"
    public_subnets: tuple[str, ...] = ()  # EKS: of public load balancers
    cidr: Cidr = "10.20.0.0/16"  # of nodes (EKS: and pods)
    pods: Cidr = "10.64.0.0/14"  # GKE
    services: Cidr = "172.20.0.0/16"
    control_plane: Cidr = "172.16.0.0/28"  # GKE
    zones: tuple[str, ...] = ("a", "b", "c")  # letters, after the region's name
    nat: Literal["one", "zone"] = "one"  # a gateway for all, or one in each zone

    @model_validator(mode="after")
    def _disjoint(self) -> Network:
        named = {key: IPv4Network(getattr(self, key)) for key in ("cidr", "pods", "services", "control_plane")}
        for (one, a), (other, b) in combinations(named.items(), 2):
            if a.overlaps(b):
                raise ValueError(f"{one} {a} and {other} {b} overlap: choose another network for one of them")
        if bool(self.vpc) != bool(self.private_subnets):
            raise ValueError("vpc and private_subnets go together: give both of a network that exists, or neither")
        return self


class Access(Section):
    allow: tuple[Cidr, ...] = ()  # networks that reach the API server from outside; none: only its private endpoint
    admins: tuple[str, ...] = ()  # EKS: IAM role ARNs, the one that runs this program among them

    @model_validator(mode="after")
    def _not_everyone(self) -> Access:
        if any(IPv4Network(net).prefixlen == 0 for net in self.allow):
            raise ValueError("allow 0.0.0.0/0 opens the API server to everyone: name the networks of people and of CI")
        return self


class Objects(Section):
    """A bucket of this environment, and which pods may use it."""

    bucket: str
    accounts: tuple[str, ...]  # "namespace/service account"


class Alerts(Section):
    """Of the platform's ``budget.monthly_usd``: who is told, and at how many percent of it."""

    emails: tuple[str, ...] = ()  # AWS
    billing_account: str | None = None  # GCP
    percent: tuple[int, ...] = (50, 80, 100)


class Settings(Section):
    provider: Literal["aws", "gcp", "existing"]
    name: Name
    region: str | None = None
    project: str | None = None  # GCP
    version: Annotated[str, AfterValidator(_version)] = "1.34"
    pools: dict[Name, Pool] = Field(default_factory=dict)
    network: Network = Network()
    access: Access = Access()
    key: str | None = None  # of the key service, for the cluster's secrets; None: one of our own
    logs: tuple[str, ...] = ("api", "audit", "authenticator")  # of the control plane
    objects: Objects | None = None
    alerts: Alerts = Alerts()
    autoscaler_chart: str = "https://kubernetes.github.io/autoscaler"  # EKS: or "oci://…", or a folder: a mirror
    protect: bool = False  # the cluster and its key and bucket cannot be deleted by mistake
    context: str | None = None  # existing: of the kubeconfig
    kubeconfig: str | None = None  # existing: its path; None: KUBECONFIG, or ~/.kube/config
    priced_as: Literal["aws", "gcp"] | None = None  # existing: whose prices its pools have; None: they cost nothing

    @model_validator(mode="after")
    def _whole(self) -> Settings:
        needed = {"aws": ("region",), "gcp": ("region", "project"), "existing": ("context",)}[self.provider]
        needed += ("region",) if self.priced_as else ()
        for key in needed:
            if not getattr(self, key):
                raise ValueError(f"provider {self.provider} needs {key}: add it")
        if self.provider != "existing" and not any(p.min and not p.taints for p in self.pools.values()):
            raise ValueError("pools has none for the platform itself: add one with min of at least 1, no gpu, no spot")
        if self.provider == "aws" and not self.access.admins:
            raise ValueError("access.admins is empty, and nobody could use the cluster: add the ARN of an IAM role")
        return self


def parse(data: Any, where: str = "the cluster's settings") -> Settings:
    """Settings from plain data; SeawayError naming each bad key, its value and what to do."""
    try:
        return Settings.model_validate(data)
    except ValidationError as error:
        checks.refuse([checks.explain(problem, Settings) for problem in error.errors()], where)
        raise


def of_stack(stack: str, folder: Path = FOLDER) -> Settings | None:
    """The settings in Pulumi.<stack>.yaml, without an engine; None where there is no such stack."""
    file = folder / f"Pulumi.{stack}.yaml"
    if not file.exists():
        return None
    config = (yaml.safe_load(file.read_text()) or {}).get("config", {})
    return parse(config.get(f"{PROJECT}:settings"), str(file))
