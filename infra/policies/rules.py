"""What the platform may look like, as pure functions over its resources. Standard library only.

The same rules run in the tests on all stacks, and as a Pulumi policy pack, which has an environment of its own.
A rule yields what is wrong, each with the fix: of one resource, or of the stack as a whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

GPU = "nvidia.com/gpu"
QUEUE = "kueue.x-k8s.io/queue-name"
ENFORCE = "pod-security.kubernetes.io/enforce"
WORKLOAD = "seaway.dev/workload"  # label of the namespaces that users' pods run in
_VERSION = re.compile(r"v?\d+\.\d+\.\d+([-+][\w.+-]+)?")
_HOST = ("hostNetwork", "hostPID", "hostIPC")
Problems = Iterator[str]


@dataclass(frozen=True)
class Resource:
    type: str  # Pulumi's, such as kubernetes:apps/v1:Deployment
    name: str
    props: Mapping[str, Any]
    protect: bool = False

    @property
    def kind(self) -> str:
        return self.props.get("kind", "") if self.type.startswith("kubernetes:") else ""

    @property
    def meta(self) -> Mapping[str, Any]:
        return self.props.get("metadata") or {}

    @property
    def spec(self) -> Mapping[str, Any]:
        return self.props.get("spec") or {}

    @property
    def namespace(self) -> str:
        return self.meta.get("namespace", "")

    def pods(self) -> list[Pod]:
        """All pods that it makes, whatever its kind."""
        return list(_pods(self.spec, self.meta)) if self.kind and self.kind != "CustomResourceDefinition" else []


@dataclass(frozen=True)
class Pod:
    labels: Mapping[str, str]
    spec: Mapping[str, Any]

    @property
    def containers(self) -> list[Mapping[str, Any]]:
        return [*self.spec["containers"], *(self.spec.get("initContainers") or ())]

    @property
    def gpu(self) -> bool:
        return any(str(_asked(c, "limits").get(GPU, 0)) not in ("0", "") for c in self.containers)


def _pods(node: Any, meta: Mapping[str, Any]) -> Iterator[Pod]:
    if isinstance(node, Mapping):
        listed = node.get("containers")
        if isinstance(listed, Sequence) and listed and isinstance(listed[0], Mapping):
            yield Pod(meta.get("labels") or {}, node)
            return
        for value in node.values():
            yield from _pods(value, node.get("metadata") or {})
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for value in node:
            yield from _pods(value, {})


def _asked(container: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    return (container.get("resources") or {}).get(what) or {}


# of one resource


def pinned_images(r: Resource) -> Problems:
    """Every image has a tag other than latest, or a digest."""
    for image in (c.get("image", "") for pod in r.pods() for c in pod.containers):
        tag = image.rpartition("/")[2].partition(":")[2]
        if "@sha256:" not in image and tag in ("", "latest"):
            yield f"image {image!r} is not pinned: give it a tag other than latest, or a digest"


def requests_and_limits(r: Resource) -> Problems:
    """Every container asks for processor and memory, and has a limit of memory."""
    for container in (c for pod in r.pods() for c in pod.containers):
        lacking = [f"requests.{k}" for k in ("cpu", "memory") if k not in _asked(container, "requests")]
        lacking += [] if "memory" in _asked(container, "limits") else ["limits.memory"]
        if lacking:
            yield f"container {container.get('name')!r} lacks {', '.join(lacking)}: add it to its resources"


def nothing_of_the_host(r: Resource) -> Problems:
    """No privileged container, no path, network, process or memory of the host."""
    for pod in r.pods():
        for volume in pod.spec.get("volumes") or ():
            if "hostPath" in volume:
                yield f"volume {volume.get('name')!r} is a path of the host: use an emptyDir or a claim"
        yield from (f"{key} is set: remove it" for key in _HOST if pod.spec.get(key))
        for container in pod.containers:
            if (container.get("securityContext") or {}).get("privileged"):
                yield f"container {container.get('name')!r} is privileged: give it the one capability that it needs"


def gpu_pods_wait_in_a_queue(r: Resource) -> Problems:
    """A pod that asks for a GPU tolerates the taint of its nodes and names its queue."""
    for pod in (p for p in r.pods() if p.gpu):
        if not any(t.get("key") in (None, GPU) for t in pod.spec.get("tolerations") or ()):
            yield f"a pod asks for a GPU and does not tolerate the taint {GPU}: add the toleration"
        if QUEUE not in pod.labels:
            yield f"a pod asks for a GPU outside of any queue: label it {QUEUE}"


def pod_security(r: Resource) -> Problems:
    """Every namespace says how far its pods may go; users' pods never further than `baseline`."""
    if r.kind != "Namespace":
        return
    labels = r.meta.get("labels") or {}
    level = labels.get(ENFORCE)
    if level not in ("restricted", "baseline", "privileged"):
        yield f"label {ENFORCE} is {level!r}: set it to restricted, baseline or privileged"
    elif level == "privileged" and WORKLOAD in labels:
        yield f"label {ENFORCE} is privileged where users' pods run: set it to restricted"


def pinned_charts(r: Resource) -> Problems:
    """Every release is of one version, all or nothing; a chart in a folder has its version in itself."""
    if not r.type.endswith(":Release"):
        return
    chart, version = str(r.props.get("chart", "")), r.props.get("version")
    if not (version is None and chart.startswith(("/", "."))) and not _VERSION.fullmatch(str(version)):
        yield f"chart {chart!r} has version {version!r}: give one version, such as 1.2.3"
    if not r.props.get("atomic"):
        yield f"chart {chart!r} is not atomic: a failed upgrade would stay half done"


def no_almighty_roles(r: Resource) -> Problems:
    """No role of ours that may do everything to everything."""
    for rule in r.props.get("rules") or () if r.kind in ("Role", "ClusterRole") else ():
        if "*" in rule.get("verbs", ()) and "*" in rule.get("resources", ()) and "*" in rule.get("apiGroups", ()):
            yield "a rule allows everything: name groups, resources and verbs"


# of the whole stack


@dataclass(frozen=True)
class Facts:
    """What the stack is to be, as the ConfigMap `seaway-platform` tells it."""

    production: bool
    budget: float
    estimate: float  # USD a month, expected

    @staticmethod
    def of(resources: Sequence[Resource]) -> Facts:
        found = [r for r in resources if r.kind == "ConfigMap" and r.meta.get("name") == "seaway-platform"]
        data = found[0].props["data"] if found else {}
        settings = json.loads(data.get("settings") or "{}")
        budget = (settings.get("budget") or {}).get("monthly_usd", 0)
        return Facts(bool(settings.get("production", True)), float(budget), float(data.get("estimate") or "inf"))


def workloads_have_walls(resources: Sequence[Resource]) -> Problems:
    """Each namespace of users' pods has a quota, limits, and denies all traffic that is not allowed."""
    for space in (r for r in resources if r.kind == "Namespace" and WORKLOAD in (r.meta.get("labels") or {})):
        name = space.meta["name"]
        inside = [r for r in resources if r.namespace == name]
        lacking = [kind for kind in ("ResourceQuota", "LimitRange") if not any(r.kind == kind for r in inside)]
        lacking += [] if any(_denies_all(r) for r in inside) else ["NetworkPolicy that denies all, in and out"]
        yield from (f"namespace {name!r} has no {what}: add one" for what in lacking)


def _denies_all(r: Resource) -> bool:
    no_rules = not r.spec.get("ingress") and not r.spec.get("egress") and not r.spec.get("podSelector")
    return r.kind == "NetworkPolicy" and no_rules and {"Ingress", "Egress"} <= set(r.spec.get("policyTypes", ()))


def queues_exist(resources: Sequence[Resource]) -> Problems:
    """The queue that a pod with a GPU names is there, in its namespace."""
    queues = {(r.namespace, r.meta["name"]) for r in resources if r.kind == "LocalQueue"}
    for r in resources:
        for queue in {p.labels[QUEUE] for p in r.pods() if p.gpu and QUEUE in p.labels}:
            if (r.namespace, queue) not in queues:
                yield f"{r.name} waits in the queue {queue!r}, which {r.namespace!r} does not have: add a LocalQueue"


def production_outlives_mistakes(resources: Sequence[Resource]) -> Problems:
    """In production what holds data is protected, and what answers requests is twice there and stays so."""
    if not Facts.of(resources).production:
        return
    for r in resources:
        holds = r.kind == "PersistentVolumeClaim" or (r.kind == "StatefulSet" and r.spec.get("volumeClaimTemplates"))
        if holds and not r.protect:
            yield f"{r.name} holds data and is not protected: make it with data=True, under availability.protect"
        if r.kind == "Deployment" and (pods := r.pods()) and _selected(r, pods[0].labels, resources, "Service"):
            if (r.spec.get("replicas") or 1) < 2:
                yield f"{r.name} answers requests with one replica: give it availability.replicas, at least 2"
            if not _selected(r, pods[0].labels, resources, "PodDisruptionBudget"):
                yield f"{r.name} answers requests and a drain may stop it: add a PodDisruptionBudget"


def _selected(r: Resource, labels: Mapping[str, str], resources: Sequence[Resource], kind: str) -> bool:
    for other in (o for o in resources if o.kind == kind and o.namespace == r.namespace):
        selector = other.spec.get("selector") or {}
        wanted = selector.get("matchLabels", {}) if kind == "PodDisruptionBudget" else selector
        if wanted and wanted.items() <= dict(labels).items():
            return True
    return False


def within_budget(resources: Sequence[Resource]) -> Problems:
    """What the stack and its cluster are expected to cost in a month is within its budget."""
    facts = Facts.of(resources)
    if facts.estimate > facts.budget:
        cost = "not told" if facts.estimate == float("inf") else f"{facts.estimate:,.0f} USD"
        yield f"the month's estimate is {cost}, the budget {facts.budget:,.0f} USD: lower pools, or raise the budget"


OF_ONE: tuple[Callable[[Resource], Problems], ...] = (
    pinned_images,
    requests_and_limits,
    nothing_of_the_host,
    gpu_pods_wait_in_a_queue,
    pod_security,
    pinned_charts,
    no_almighty_roles,
)
OF_ALL: tuple[Callable[[Sequence[Resource]], Problems], ...] = (
    workloads_have_walls,
    queues_exist,
    production_outlives_mistakes,
    within_budget,
)


def check(resources: Sequence[Resource]) -> list[str]:
    """All that is wrong: "rule: resource: what"."""
    found = [f"{rule.__name__}: {r.name}: {text}" for rule in OF_ONE for r in resources for text in rule(r)]
    return found + [f"{rule.__name__}: {text}" for rule in OF_ALL for text in rule(resources)]
