"""The substrate in a Kubernetes cluster: SeldonDeployments, run by the Seldon operator behind an Istio gateway.

The object in the API server is the only state, and its resourceVersion guards every write. The operator
writes weights only while every Deployment of the object is ready, so what callers get is read from the
VirtualService, never from the object or from ``status.state``.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from seaway.errors import SeawayError
from seaway.kube_api import Api
from serving import manifests
from serving.rollout.state import STATE
from serving.substrate import kube_objects as found
from serving.substrate.base import AVAILABLE, CREATING, FAILED, Conflict, Counters, NotFound, Status, wait_ready
from serving.substrate.kube_lease import Lease

POLL = 0.2  # seconds
COMPONENT = "seaway-controller"  # the reporter of events


class Signals(Protocol):
    """Where the counters of a cluster come from."""

    url: str

    def counters(self, namespace: str, services: Mapping[str, str], pods: Mapping[str, str]) -> Any:
        """Predictor -> source -> Counters. ``services``: predictor -> service; ``pods``: pod -> predictor."""


class KubernetesSubstrate:
    """Objects of one namespace. ``signals``: their counters; ``url``: base address of the ingress gateway."""

    def __init__(self, api: Api, namespace: str = "default", *, signals: Signals | None = None, url: str | None = None):
        self.api, self.namespace, self.signals, self.url = api, namespace, signals, url

    @property
    def metrics_url(self) -> str:
        return self._signals().url

    def create(self, obj: dict[str, Any]) -> dict[str, Any]:
        self._check(obj)
        fresh = {k: v for k, v in obj["metadata"].items() if k not in ("uid", "resourceVersion", "generation")}
        body = {**obj, "metadata": {**fresh, "namespace": self.namespace}}
        return found.normal(self.api.create(self._path(), body))

    def read(self, name: str) -> dict[str, Any]:
        return found.normal(self._stored(name))

    def write(self, obj: dict[str, Any]) -> dict[str, Any]:
        self._check(obj)
        meta = obj["metadata"]
        if not meta.get("resourceVersion") or not meta.get("uid"):
            raise Conflict(f"{meta['name']!r} is written without the version that was read: read it first")
        return found.normal(self.api.replace(self._path(meta["name"]), obj))

    def delete(self, name: str) -> None:
        with contextlib.suppress(NotFound):
            self.api.delete(self._path(name))

    def names(self) -> list[str]:
        listed = self.api.get(self._path()).get("items", [])
        return sorted(o["metadata"]["name"] for o in listed if (o["metadata"].get("annotations") or {}).get(STATE))

    def status(self, name: str) -> Status:
        """What runs now: four reads, of which the object is the first, so that it is never the newest.

        The state is that of the predictors that callers reach; but Seldon carries out no change of weights
        while a shadow is not ready either.
        """
        stored = self._stored(name)
        obj = found.normal(stored)
        listed = manifests.predictors(obj)
        deployments = self._owned(f"/apis/apps/v1/namespaces/{self.namespace}/deployments", name)
        deployments = {found.predictor_of(d["spec"]["template"]): d for d in deployments}
        current = {p: d for p, d in deployments.items() if p in listed and found.follows(listed[p], d)}
        ready = {p: p in current and found.is_ready(current[p]) for p in listed}
        http = found.http_route(self._virtual_service(name), f"/seldon/{self.namespace}/{name}/")
        weights = found.routed(http, name, list(listed))
        asked = manifests.weights(obj)
        as_asked = weights == {p: w for p, w in asked.items() if w}
        pods = self._pods(name)
        restarts = {p: sum(found.crashes(pod) for pod in pods.get(p, [])) for p in listed}
        state, generation = CREATING, obj["metadata"]["generation"]
        if all(ready[p] for p in asked) and as_asked:
            state = AVAILABLE
        elif any(found.has_failed(d) for p, d in current.items() if p in asked):
            state = FAILED
        return Status(
            ready=ready,
            weights=weights,
            url=f"{self.url}/seldon/{self.namespace}/{name}" if self.url else None,
            state=state,
            message="" if state == AVAILABLE else _why(stored, ready, pods, weights, as_asked),
            generation=generation if state == AVAILABLE else generation - 1,
            restarts=restarts,
        )

    def wait_ready(self, name: str, timeout: float = 60.0) -> Status:
        return wait_ready(self, name, timeout, POLL)

    def counters(self, name: str) -> dict[str, dict[str, Counters]]:
        signals = self._signals()
        asked = manifests.weights(self.read(name))
        pods = {pod["metadata"]["name"]: p for p, listed in self._pods(name).items() for pod in listed if p in asked}
        return signals.counters(self.namespace, {p: f"{name}-{p}" for p in asked}, pods)

    def event(self, name: str, reason: str, text: str, warning: bool = False) -> None:
        """An Event on the object, as ``kubectl describe`` shows it; the same one again only counts up."""
        with contextlib.suppress(SeawayError):
            self._say(name, reason, text, "Warning" if warning else "Normal")

    def lease(self, name: str, holder: str, seconds: int = 30) -> Lease:
        return Lease(self.api, self.namespace, name, holder, seconds)

    def _say(self, name: str, reason: str, text: str, kind: str) -> None:
        meta = self._stored(name)["metadata"]
        text = text if len(text) <= 1000 else f"{text[:997]}..."
        key = hashlib.sha256("\n".join((meta["uid"], reason, kind, text)).encode()).hexdigest()[:16]
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        path = f"/api/v1/namespaces/{self.namespace}/events"
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{name}.{key}", "namespace": self.namespace},
            "involvedObject": {
                "apiVersion": manifests.API_VERSION,
                "kind": "SeldonDeployment",
                "name": name,
                "namespace": self.namespace,
                "uid": meta["uid"],
            },
            "type": kind,
            "reason": reason,
            "message": text,
            "source": {"component": COMPONENT},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            self.api.create(path, event)
        except Conflict:  # said before, perhaps by a controller before this one
            old = self.api.patch(f"{path}/{name}.{key}", {"lastTimestamp": now})
            self.api.patch(f"{path}/{name}.{key}", {"count": old.get("count", 1) + 1})

    def _check(self, obj: Mapping[str, Any]) -> None:
        manifests.validate(obj)
        namespace = obj["metadata"].get("namespace", self.namespace)
        if namespace != self.namespace:
            raise SeawayError(
                f"{obj['metadata']['name']!r} is of namespace {namespace!r}, this substrate serves {self.namespace!r}: "
                "set serving.namespace"
            )

    def _signals(self) -> Signals:
        if self.signals is None:
            raise SeawayError("a release in a cluster reads its counters from Prometheus: set serving.prometheus")
        return self.signals

    def _path(self, name: str = "") -> str:
        base = f"/apis/{manifests.API_VERSION}/namespaces/{self.namespace}/seldondeployments"
        return f"{base}/{name}" if name else base

    def _stored(self, name: str) -> dict[str, Any]:
        try:
            return self.api.get(self._path(name))
        except NotFound:
            raise NotFound(f"there is no released object {name!r} in namespace {self.namespace!r}") from None

    def _virtual_service(self, name: str) -> dict[str, Any]:
        try:
            return self.api.get(f"/apis/networking.istio.io/v1beta1/namespaces/{self.namespace}/virtualservices/{name}")
        except NotFound:
            return {}

    def _owned(self, path: str, name: str) -> list[dict[str, Any]]:
        return self.api.get(path, labelSelector=f"seldon-deployment-id={name}").get("items", [])

    def _pods(self, name: str) -> dict[str, list[dict[str, Any]]]:
        """The release's pods by predictor; those that are going are left out."""
        listed: dict[str, list[dict[str, Any]]] = {}
        for pod in self._owned(f"/api/v1/namespaces/{self.namespace}/pods", name):
            who = found.predictor_of(pod)
            if who and not pod["metadata"].get("deletionTimestamp"):
                listed.setdefault(who, []).append(pod)
        return listed


def _why(
    stored: Mapping[str, Any],
    ready: Mapping[str, bool],
    pods: Mapping[str, list[dict[str, Any]]],
    weights: Mapping[str, int],
    as_asked: bool,
) -> str:
    """What is waited for, by name."""
    lines = []
    for predictor, good in ready.items():
        if not good:
            said = [
                f"pod {pod['metadata']['name']} {t}" for pod in pods.get(predictor, []) if (t := found.trouble(pod))
            ]
            lines.append(f"predictor {predictor} is not ready" + (f": {'; '.join(said[:3])}" if said else ""))
    if not as_asked:
        blocked = not all(ready.values())
        lines.append(
            f"the gateway still routes {dict(weights) or 'nothing'}"
            + (", and Seldon changes weights only while all predictors are ready" if blocked else "")
        )
    if (stored.get("status") or {}).get("state") == FAILED:
        lines.append(f"Seldon says: {stored['status'].get('description') or 'Failed'}")
    return "; ".join(lines)
