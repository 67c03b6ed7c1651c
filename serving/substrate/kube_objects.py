"""What the cluster's objects say about a release. Pure: objects in, answers out.

Seldon's ``status.state`` has no generation: Available stays readable after a change of the spec, and it does not
speak of weights. So readiness is read from the Deployments and weights from the VirtualService.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

_KEPT = ("name", "namespace", "uid", "generation", "resourceVersion", "labels", "annotations")
_KEPT_IF_SET = ("finalizers", "ownerReferences", "deletionTimestamp")
# what a typed client adds to a spec that it only passes on
_EMPTY = ("metadata", "engineResources", "svcOrchSpec", "resources", "securityContext")
_UNITS = {"m": "0.001", "k": "1e3", "M": "1e6", "G": "1e9", "T": "1e12", "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def normal(obj: Mapping[str, Any]) -> dict[str, Any]:
    """The object as it was asked for: without status, bookkeeping, and what a server fills in by default."""
    meta = obj["metadata"]
    kept = {key: copy.deepcopy(meta[key]) for key in _KEPT if key in meta}
    kept |= {key: copy.deepcopy(meta[key]) for key in _KEPT_IF_SET if meta.get(key)}
    rest = {key: value for key, value in obj.items() if key not in ("metadata", "status", "spec")}
    return {**rest, "metadata": kept, "spec": _plain(obj["spec"])}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    found = {}
    for key, item in value.items():
        item = _plain(item)
        if item is None or (item == {} and key in _EMPTY) or key == "creationTimestamp":
            continue
        if key == "ports" and isinstance(item, list):  # the definition's own default
            item = [{k: v for k, v in p.items() if (k, v) != ("protocol", "TCP")} for p in item]
        found[key] = item
    return found


def predictor_of(template: Mapping[str, Any]) -> str | None:
    """The predictor that a pod (template) belongs to: Seldon says it in the container's environment."""
    for container in template["spec"].get("containers", []):
        for variable in container.get("env") or []:
            if variable["name"] == "PREDICTOR_ID":
                return variable.get("value")
    return None


def follows(predictor: Mapping[str, Any], deployment: Mapping[str, Any]) -> bool:
    """Whether a Deployment has all that the predictor asks for; Seldon's own additions do not matter."""
    pod = deployment["spec"]["template"]["spec"]
    asked = [spec["spec"] for spec in predictor.get("componentSpecs", [])]
    if not any(covers(spec, pod) for spec in asked):
        return False
    for container in pod["containers"]:
        for variable in container.get("env") or []:
            if variable["name"] == "PREDICTIVE_UNIT_PARAMETERS":
                wanted = {p["name"]: p["value"] for p in predictor["graph"].get("parameters", [])}
                return {p["name"]: p["value"] for p in json.loads(variable["value"] or "[]")} == wanted
    return not predictor["graph"].get("parameters")


def covers(asked: Any, found: Any, quantity: bool = False) -> bool:
    """Whether everything asked for is found; lists of named things by name, others item by item."""
    if isinstance(asked, Mapping):
        inside = isinstance(found, Mapping)
        return (inside or not asked) and all(
            covers(v, found.get(k) if inside else None, quantity or k in ("requests", "limits", "sizeLimit"))
            for k, v in asked.items()
            if v is not None
        )
    if isinstance(asked, list):
        if not isinstance(found, list):
            return not asked
        if asked and all(isinstance(item, Mapping) and "name" in item for item in asked):
            return all(any(covers(item, other) for other in found if isinstance(other, Mapping)) for item in asked)
        return len(asked) == len(found) and all(covers(a, f, quantity) for a, f in zip(asked, found, strict=True))
    if quantity and found is not None:
        return _amount(asked) == _amount(found)
    return asked == found


def _amount(text: Any) -> Any:
    """A quantity such as 250m or 1Gi as a number; anything else as it is."""
    text = str(text)
    for unit in sorted(_UNITS, key=len, reverse=True):
        if text.endswith(unit):
            text, factor = text.removesuffix(unit), Decimal(_UNITS[unit])
            break
    else:
        factor = Decimal(1)
    try:
        return Decimal(text) * factor
    except InvalidOperation:
        return text


def is_ready(deployment: Mapping[str, Any]) -> bool:
    """All pods of the newest template are ready and none of an older one is waited for."""
    status, wanted = deployment.get("status") or {}, deployment["spec"].get("replicas", 1)
    return (
        status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
        and wanted > 0
        and status.get("updatedReplicas", 0) >= wanted
        and status.get("readyReplicas", 0) >= wanted
        and not status.get("unavailableReplicas", 0)
    )


def has_failed(deployment: Mapping[str, Any]) -> bool:
    """Past its progress deadline without a pod that serves: it will not come by itself."""
    status = deployment.get("status") or {}
    late = any(
        c.get("type") == "Progressing" and c.get("status") == "False" and c.get("reason") == "ProgressDeadlineExceeded"
        for c in status.get("conditions", [])
    )
    current = status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
    return late and current and not status.get("availableReplicas", 0)


def http_route(service: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The VirtualService's REST route; {} when it has none."""
    listed = service.get("spec", {}).get("http") or []
    for http in listed:
        if any(match.get("uri", {}).get("prefix") == prefix for match in http.get("match") or []):
            return http
    return listed[0] if listed else {}


def routed(http: Mapping[str, Any], name: str, predictors: Sequence[str]) -> dict[str, int]:
    """Percent by predictor as the gateway is told; a predictor at 0 is left out.

    A route without a weight gets 0, or everything when it is the only one.
    """
    routes = http.get("route") or []
    found: dict[str, int] = {}
    for route in routes:
        weight = route.get("weight", 0) if len(routes) > 1 else route.get("weight") or 100
        if weight:
            who = _predictor(route.get("destination", {}), name, predictors)
            found[who] = found.get(who, 0) + weight
    return found


def _predictor(destination: Mapping[str, Any], name: str, predictors: Sequence[str]) -> str:
    """The predictor behind a destination; of an unknown one its host, so that it is seen to be wrong."""
    service = destination.get("host", "").split(".", 1)[0]
    for predictor in predictors:
        if service == f"{name}-{predictor}":
            return predictor
    hashed = service.startswith("seldon-")  # Seldon's way with names that are too long
    return destination["subset"] if hashed and "subset" in destination else service.removeprefix(f"{name}-")


def crashes(pod: Mapping[str, Any]) -> int:
    return sum(c.get("restartCount", 0) for c in (pod.get("status") or {}).get("containerStatuses") or [])


def trouble(pod: Mapping[str, Any]) -> str:
    """Why a pod is not ready, in the cluster's words; '' when it is."""
    status = pod.get("status") or {}
    conditions = {c.get("type"): c for c in status.get("conditions") or []}
    if conditions.get("Ready", {}).get("status") == "True":
        return ""
    for container in (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or []):
        for state in (container.get("state") or {}, container.get("lastState") or {}):
            if said := state.get("waiting") or state.get("terminated"):
                reason, message = said.get("reason") or "stopped", (said.get("message") or "")[:300]
                if reason not in ("ContainerCreating", "PodInitializing", "Completed"):
                    return f"{reason}{': ' if message else ''}{message}"
    placed = conditions.get("PodScheduled", {})
    if placed.get("status") == "False":
        return f"{placed.get('reason', 'not placed')}: {placed.get('message', '')[:300]}"
    return f"{status.get('phase', 'unknown')}, not ready"
