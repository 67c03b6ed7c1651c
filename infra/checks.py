"""What is wrong with a stack's settings, found before any resource is touched. Each problem names its key and the fix.

One key's own type and form are checked by its type in settings.py; here is what takes several keys, or other files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from ipaddress import ip_network
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from seaway.errors import SeawayError

if TYPE_CHECKING:
    from infra.settings import Settings

# names that the platform, its add-ons or Kubernetes itself have taken
OWN = ("kubeflow", "features", "tracking", "monitoring", "seaway-system")
TAKEN = (*OWN, "istio-system", "cert-manager", "seldon-system", "ray-system", "kueue-system", "gpu-system", "opencost")
_UNITS = {"m": 1e-3, "": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_KEY_SERVICES = ("awskms://", "gcpkms://", "azurekeyvault://", "hashivault://")
Problems = Iterator[tuple[str, str]]  # key, what is wrong with it and what to do


def refuse(problems: Iterable[str], where: str) -> None:
    """SeawayError with all of the problems, where there are any."""
    listed = list(problems)
    if listed:
        raise SeawayError(f"{where} are not valid:\n  " + "\n  ".join(listed))


def of_settings(s: Settings) -> list[str]:
    """What the settings alone tell."""
    found = (*_tenancy(s), *_quotas(s), *_outside(s), *(_production(s) if s.production else ()))
    return [f"key {key!r}: {text}" for key, text in found]


def of_site(s: Settings, stack_file: Path) -> list[str]:
    """What other files tell: the stack's file, the versions, the charts, the cluster's settings, the prices."""
    return [f"key {key!r}: {text}" for key, text in (*_told(s), *_sources(s), *_secrets(s, stack_file))]


def amount(quantity: str) -> float:
    """A Kubernetes quantity as a number: cores or bytes."""
    number, unit = re.fullmatch(r"([\d.]+)(\D*)", quantity).groups()
    return float(number) * _UNITS[unit]


def _tenancy(s: Settings) -> Problems:
    tenancy, names = s.tenancy, [*s.tenancy.serving, s.tenancy.training]
    for name in names:
        if name in (*TAKEN, "default") or name.startswith("kube-"):
            yield "tenancy", f"the platform or Kubernetes itself has the namespace {name}: choose another name"
    for name in sorted({n for n in names if names.count(n) > 1}):
        yield "tenancy", f"{name} is given twice: each namespace of serving and training needs a name of its own"
    for one, other in combinations(map(ip_network, tenancy.api_server), 2):
        if one.version == other.version and one.overlaps(other):
            yield "tenancy.api_server", f"{one} and {other} overlap: keep the one that is meant"
    for group in sorted({*tenancy.viewers} & {*tenancy.engineers, *tenancy.admins}):
        yield "tenancy.viewers", f"{group} is among engineers or admins too: leave it in one of the lists"


def _quotas(s: Settings) -> Problems:
    workloads = (*s.tenancy.serving, s.tenancy.training)
    if lacking := [name for name in workloads if name not in s.tenancy.quotas]:
        yield "tenancy.quotas", f"lacks {', '.join(lacking)}: give each namespace of a workload its quota"
    for name, quota in s.tenancy.quotas.items():
        key = f"tenancy.quotas.{name}"
        if name not in (*workloads, *OWN):
            yield key, "there is no such namespace: correct its name, or add it to tenancy.serving"
        for what in ("cpu", "memory"):
            given, whole = getattr(quota, f"default_{what}"), getattr(quota, what)
            if amount(given) > amount(whole):
                yield f"{key}.default_{what}", f"{given} is above {what} {whole}, and no pod could start: lower it"
        if quota.gpu and not s.gpu:
            yield f"{key}.gpu", f"{quota.gpu}, but there is no pool to take them from: add gpu, or set it to 0"
        if s.gpu and name == s.tenancy.training and not quota.gpu:
            yield f"{key}.gpu", f"0, but the queue {s.gpu.queue} is to admit {s.gpu.count}: give it up to gpu.count"


def _outside(s: Settings) -> Problems:
    uri = s.objects.uri
    if uri is not None and not re.fullmatch(r"(s3|gs)://[a-z0-9][-a-z0-9.]+[a-z0-9](/\S*)?", uri):
        yield "objects.uri", f"{uri!r} is no bucket: write s3://bucket/prefix or gs://bucket/prefix"
    for key in ("endpoint", "region", "role"):
        if uri is None and getattr(s.objects, key):
            yield f"objects.{key}", "is given, but objects stay in the cluster: remove it, or add objects.uri"
    if uri and uri.startswith("gs://") and s.objects.endpoint:
        yield "objects.endpoint", "is of S3-compatible servers, and uri is gs://: remove one of the two"
    if s.redis.tls and not s.redis.host:
        yield "redis.tls", "is for a server outside: remove it, or name redis.host"
    if s.monitoring.opencost and not s.addons:
        yield "monitoring.opencost", "is an add-on, and addons is false: set one of the two otherwise"


def _production(s: Settings) -> Problems:
    have, of = s.availability, "production is true"
    if not have.protect:
        yield "availability.protect", f"false, but {of}, and one command would delete the data: set it to true"
    if have.replicas < 2:
        yield "availability.replicas", f"{have.replicas}, but {of}: set it to at least 2"
    if not have.disruption_budgets:
        yield "availability.disruption_budgets", f"false, but {of}, and a drain would stop services: set it to true"
    if not s.redis.host and not s.redis.append_only:
        yield "redis.append_only", f"false, but {of}, and a restart would lose the features: set it to true"
    if not s.gateway.tls_secret:
        yield "gateway.tls_secret", f"missing, but {of}: name the Secret that holds the certificate"
    if not s.tenancy.admins:
        yield "tenancy.admins", f"empty, but {of}: name a group of the identity provider"


def _told(s: Settings) -> Problems:
    """The environment that runs on it, its pools and its cost."""
    from infra.cluster import estimate
    from infra.cluster import settings as clusters
    from seaway import config

    try:
        config.load(s.env)
    except SeawayError as error:
        yield "env", f"{error}"
    try:
        cluster = clusters.of_stack((s.cluster.stack or s.env).rpartition("/")[2])
        if problem := estimate.excess(s):
            yield "budget.monthly_usd", problem.removeprefix("budget.monthly_usd: ")
    except SeawayError as error:
        yield "cluster.stack", f"{error}"
        return
    pools = cluster.pools if cluster and s.cluster.stack else {}
    if s.gpu and pools:
        asked = s.gpu.node_labels.items()
        if not any(pool.gpu and asked <= pool.labels(name).items() for name, pool in pools.items()):
            text = f"no pool of {s.cluster.stack} has GPUs and the labels {s.gpu.node_labels}"
            yield "gpu.node_labels", f"{text}: correct them, add such a pool there, or remove gpu"


def _sources(s: Settings) -> Problems:
    """Charts and images that cannot be had as the settings ask for them."""
    from infra import versions

    known = versions.load(s.sources)
    for name in s.sources.chart:
        if name not in known.table.charts:
            listed = get_close_matches(name, known.table.charts, 1) or known.table.charts
            yield f"sources.chart.{name}", f"versions.yaml has no such add-on: it has {', '.join(listed)}"
    unused = (set() if s.gpu else {"kueue", "nvidia-device-plugin"}) | (
        set() if s.monitoring.opencost else {"opencost"}
    )
    lacking = []
    for name, chart in known.table.charts.items() if s.addons else ():
        place, _ = known.locate(chart)
        if name not in unused and place.startswith("/") and not Path(place, "Chart.yaml").exists():
            lacking.append(place)
    if lacking:
        yield "sources", f"charts or chart names folders without a chart: {', '.join(lacking)}; copy them there"
    undigested = [f"{n} ({i.repository}:{i.tag})" for n, i in known.table.images.items() if not i.digest]
    if s.sources.digests and undigested:
        yield (
            "sources.digests",
            f"true, but versions.yaml lacks `digest: sha256:…` of {', '.join(undigested)}: add it there",
        )


def _secrets(s: Settings, stack_file: Path) -> Problems:
    """Production's secrets must not hang on a passphrase: who has it and the state file has them all."""
    written = yaml.safe_load(stack_file.read_text()) if stack_file.exists() else {}
    provider = written.get("secretsprovider", "passphrase")
    if s.production and not provider.startswith(_KEY_SERVICES):
        change = 'pulumi stack change-secrets-provider "awskms://alias/NAME?region=REGION"'
        yield "secretsprovider", f"{provider}, but production is true: use a key service of the cloud, as by `{change}`"


def explain(problem: Any, model: Any = None) -> str:
    """One of pydantic's problems in our words; ``model`` lets it name the key that was meant."""
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        near = get_close_matches(str(problem["loc"][-1]), _keys(model, problem["loc"][:-1]), 1)
        return f"unknown key {where!r}: " + (f"did you mean {near[0]}?" if near else "remove it")
    if problem["type"] == "missing":
        return f"key {where!r} is missing: add it"
    said = f"key {where!r}: " if where else ""
    if problem["type"] == "value_error":
        return said + problem["msg"].removeprefix("Value error, ")
    return f"{said}{problem['msg']} (value: {problem['input']!r})"


def _keys(model: Any, path: tuple) -> list[str]:
    """The keys that the section at ``path`` has."""
    for part in path:
        field = getattr(model, "model_fields", {}).get(part)
        kinds = (*getattr(field.annotation, "__args__", ()), field.annotation) if field else ()
        model = next((k for k in kinds if hasattr(k, "model_fields")), None)
    return list(getattr(model, "model_fields", {}))
