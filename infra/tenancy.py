"""Namespaces and what holds in each: Pod Security, quota, limits, who may talk to whom, who goes first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from infra.base import Part, Site, manifests
from infra.settings import Quota, Settings
from infra.versions import Versions

SECURITY = "pod-security.kubernetes.io/"
WORKLOAD = {"seaway.dev/workload": "true"}  # the label by which admission policies find users' namespaces


@dataclass(frozen=True)
class Namespace:
    """One namespace of the platform and its rules."""

    name: str
    security: str = "restricted"
    workload: bool = False
    data: bool = False
    quota: Quota = field(default_factory=Quota)
    request: str | None = None  # memory of a container that asks for none; None: as its limit

    def manifest(self) -> dict[str, Any]:
        strict = "baseline" if self.security == "privileged" else "restricted"
        levels = {"enforce": self.security, "audit": strict, "warn": strict}
        labels = {f"{SECURITY}{mode}": level for mode, level in levels.items()} | (WORKLOAD if self.workload else {})
        return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.name, "labels": labels}}

    def limits(self) -> list[dict[str, Any]]:
        """Quota and defaults. No limit of processor time: it would slow a server down while cores are idle."""
        quota = self.quota
        hard = {
            "requests.cpu": quota.cpu,
            "requests.memory": quota.memory,
            "limits.memory": quota.memory,
            "requests.nvidia.com/gpu": str(quota.gpu),
            "requests.storage": quota.claims,
            "pods": str(quota.pods),
            "services.loadbalancers": "0",
            "services.nodeports": "0",
        }
        asked = {"cpu": quota.default_cpu, "memory": self.request or quota.default_memory}
        given = {"type": "Container", "default": {"memory": quota.default_memory}, "defaultRequest": asked}
        return [
            _object("v1", "ResourceQuota", "quota", self.name, {"hard": hard}),
            _object("v1", "LimitRange", "limits", self.name, {"limits": [given]}),
        ]


def namespaces(settings: Settings, versions: Versions) -> list[Namespace]:
    """Ours and the users', then the add-ons'. Those of add-ons that are not installed here are not made here."""
    table = manifests("namespaces")[0]
    tenancy = settings.tenancy
    rows = {**table["ours"], tenancy.training: table["training"], **dict.fromkeys(tenancy.serving, table["serving"])}
    made = [Namespace(name, **{**row, "quota": _quota(settings, name, row)}) for name, row in rows.items()]
    if settings.addons:
        unwanted = set() if settings.gpu else {"kueue-system", "gpu-system"}
        unwanted |= set() if settings.monitoring.opencost else {"opencost"}
        wanted = {chart.namespace for chart in versions.table.charts.values()} - unwanted - set(rows)
        made += [Namespace(name, **table["addons"].get(name, {})) for name in sorted(wanted)]
    return made


def _quota(settings: Settings, name: str, row: Mapping[str, Any]) -> Quota:
    own = settings.tenancy.quotas.get(name)
    return Quota(**{**row.get("quota", {}), **(own.model_dump(exclude_unset=True) if own else {})})


class Network:
    """The network policies that follow from manifests/network.yaml: one that denies, one a set of listening pods."""

    def __init__(self, settings: Settings, made: list[Namespace]) -> None:
        self.names = {n.name: n for n in made}
        self.groups = {
            "serving": list(settings.tenancy.serving),
            "training": [settings.tenancy.training],
            "workloads": [n.name for n in made if n.workload],
            "addons": [n.name for n in made if not n.workload],
        }
        facts = {"redis": settings.redis.host, "database": settings.database.host, "objects": settings.objects.uri}
        self.facts = {f"{name}-outside" for name, place in facts.items() if place}
        self.facts.add(f"objects-{(settings.objects.uri or '').partition('://')[0]}")
        ports = {
            "redis-port": _port(settings.redis.host, "6379"),
            "database-port": _port(settings.database.host, "5432"),
            "objects-port": _port(settings.objects.endpoint, "443"),
        }
        (table,) = manifests("network", **ports)
        self.places = {**table["places"], "api-server": [{"cidr": c} for c in settings.tenancy.api_server]}
        self.flows = [flow for flow in table["flows"] if self._holds(flow.get("when"))]

    def _holds(self, fact: str | None) -> bool:
        return fact is None or (fact.removeprefix("not ") in self.facts) is not fact.startswith("not ")

    def _pairs(self) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        """(caller, listener, flow); where one side is no namespace of ours only the other side's half is made."""
        for flow in self.flows:
            for caller in self.groups.get(flow["from"], [flow["from"]]):
                targets = [caller] if flow["to"] == "same" else self.groups.get(flow["to"], [flow["to"]])
                yield from ((caller, target, flow) for target in targets)

    def policies(self) -> dict[str, list[dict[str, Any]]]:
        """Namespace -> its NetworkPolicies."""
        inward: dict[tuple[str, str], tuple[Mapping, list]] = {}
        outward: dict[str, list] = {}
        for caller, target, flow in self._pairs():
            ports = _ports(flow)
            if target in self.names:
                pods = flow.get("pods", {})
                peers = self._peers(caller)
                inward.setdefault((target, str(pods)), (pods, []))[1].append({"from": peers, **ports})
            if caller in self.names and self.names[caller].workload:
                outward.setdefault(caller, []).append({"to": self._peers(target), **ports})
        made: dict[str, list[dict[str, Any]]] = {}
        for name, namespace in self.names.items():
            kinds = ["Ingress", "Egress"] if namespace.workload else ["Ingress"]
            made[name] = [_policy("default-deny", name, {}, {"policyTypes": kinds})]
            if name in outward:
                out = {"policyTypes": ["Egress"], "egress": outward[name]}
                made[name].append(_policy("allow-out", name, {}, out))
        for (name, _), (pods, rules) in inward.items():
            suffix = "".join(f"-{value}" for value in pods.values())
            into = {"policyTypes": ["Ingress"], "ingress": rules}
            made[name].append(_policy(f"allow-in{suffix}", name, pods, into))
        return made

    def _peers(self, side: str) -> list[dict[str, Any]]:
        return [_peer(place) for place in self.places.get(side, [{"namespace": side}])]


def _peer(place: Mapping[str, Any]) -> dict[str, Any]:
    if "namespace" in place:
        return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": place["namespace"]}}}
    block = {"cidr": place["cidr"], **({"except": place["except"]} if "except" in place else {})}
    return {"ipBlock": block}


def _ports(flow: Mapping[str, Any]) -> dict[str, Any]:
    protocols = ["TCP", "UDP"] if flow.get("udp") else ["TCP"]
    listed = [{"port": int(port), "protocol": p} for port in flow.get("ports", ()) for p in protocols]
    return {"ports": listed} if listed else {}


def _port(place: str | None, usual: str) -> str:
    """The port in "host:port" or a URL."""
    last = (place or "").rstrip("/").rpartition(":")[2]
    return last if last.isdigit() else usual


def _policy(name: str, namespace: str, pods: Mapping[str, str], spec: Mapping[str, Any]) -> dict[str, Any]:
    selector = {"podSelector": {"matchLabels": dict(pods)} if pods else {}}
    return _object("networking.k8s.io/v1", "NetworkPolicy", name, namespace, {**selector, **spec})


def _object(version: str, kind: str, name: str, namespace: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": version, "kind": kind, "metadata": meta, "spec": dict(spec)}


class Tenancy(Part):
    def __init__(self, site: Site) -> None:
        super().__init__("Tenancy", site)
        made = namespaces(site.settings, site.versions)
        rules = Network(site.settings, made).policies()
        for namespace in made:
            owner = self.apply(namespace.manifest(), data=namespace.data)
            for manifest in [*(namespace.limits() if namespace.workload else []), *rules[namespace.name]]:
                self.apply(manifest, after=[owner])
        for manifest in manifests("priorities"):
            self.apply(manifest)
        self.done(namespaces=[n.name for n in made])
