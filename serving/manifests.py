"""The SeldonDeployment of a release: built, read, changed and checked as a plain dict. Pure."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from seaway.errors import SeawayError
from serving.pod_parts import Parts, furnish

API_VERSION = "machinelearning.seldon.io/v1"
CLASS_VARIABLE = "MODEL_NAME"  # names the Python class that the image's launcher serves
METRICS_PORT = 6000  # Seldon's own
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,51}[a-z0-9])?")  # a DNS label, with room for Seldon's suffixes
_TYPES = {bool: "BOOL", int: "INT", float: "FLOAT", str: "STRING"}


@dataclass(frozen=True)
class Predictor:
    """One model version behind the release: what it serves and the percentage of requests it gets."""

    name: str
    traffic: int
    bundle: str  # folder of the model bundle, as the server sees it, or its URI in object storage
    online_store: Mapping[str, Any] = field(default_factory=dict)
    project: str = "seaway"
    version: str = ""  # the registry's version; becomes the label and annotation `version`
    parameters: Mapping[str, str | int | float | bool] = field(default_factory=dict)  # further ones of the class
    model_class: str = "serving.model_server.ModelServer"
    replicas: int = 1
    image: str = ""  # of its container; empty: the deployment's
    shadow: bool = False  # gets copies of ``traffic`` percent of the requests; its answers go to nobody


def seldon_deployment(
    name: str,
    namespace: str,
    predictors: list[Predictor],
    annotations: Mapping[str, str] | None = None,
    *,
    image: str = "seaway-serve:dev",
    resources: Mapping[str, Any] | None = None,
    mounts: Mapping[str, Mapping[str, Any]] | None = None,
    parts: Parts | None = None,
) -> dict[str, Any]:
    """The SeldonDeployment (v1) to apply; checked. ``resources``: the container's requests and limits.

    ``mounts``: folder -> volume source, such as the bundles' and the prediction logs' claims. All are read only
    but the folder of a predictor's parameter ``log``, which needs one that many may write to (ReadWriteMany).
    """
    obj = {
        "apiVersion": API_VERSION,
        "kind": "SeldonDeployment",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/part-of": "seaway"},
            "annotations": {"seldon.io/no-engine": "true", **(annotations or {})},
        },
        "spec": {
            "name": name,
            "protocol": "seldon",
            "annotations": {"seldon.io/no-engine": "true"},
            "predictors": [_predictor(p, image, resources, mounts or {}, parts or Parts()) for p in predictors],
        },
    }
    validate(obj)
    return obj


def _predictor(
    predictor: Predictor,
    image: str,
    resources: Mapping[str, Any] | None,
    mounts: Mapping[str, Mapping[str, Any]],
    parts: Parts,
) -> dict[str, Any]:
    values = {
        "bundle": predictor.bundle,
        "online_store": json.dumps(dict(predictor.online_store), sort_keys=True),
        "project": predictor.project,
        **({"version": predictor.version} if predictor.version else {}),
        **predictor.parameters,
    }
    version = predictor.version or predictor.name
    container = {
        "name": "model",
        "image": predictor.image or image,
        "env": [{"name": CLASS_VARIABLE, "value": predictor.model_class}],
        # Seldon numbers metrics ports by a predictor's place: without a fixed one the removal of the first
        # predictor, which a promotion is, would roll the pods of the second
        "ports": [{"name": "metrics", "containerPort": METRICS_PORT}],
        "resources": dict(resources or {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "1Gi"}}),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 8888,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
    }
    pod = {
        "automountServiceAccountToken": False,
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    for number, (folder, source) in enumerate(mounts.items()):
        name, written = f"mount-{number}", folder == values.get("log")
        pod["volumes"].append({"name": name, **source})
        container["volumeMounts"].append({"name": name, "mountPath": folder, "readOnly": not written})
        if written:
            pod["securityContext"] = {"fsGroup": 8888}
    furnish(pod, values, parts)
    return {
        "name": predictor.name,
        "traffic": predictor.traffic,
        **({"shadow": True} if predictor.shadow else {}),
        "replicas": predictor.replicas,
        # Seldon's executor reads the annotation, its Python wrapper the label
        "annotations": {"seldon.io/no-engine": "true", "version": version},
        "labels": {"version": version},
        "graph": {
            "name": "model",
            "type": "MODEL",
            "endpoint": {"type": "REST"},
            "parameters": [
                {"name": key, "value": _text(value), "type": _TYPES[type(value)]} for key, value in values.items()
            ],
            "children": [],
        },
        "componentSpecs": [{"spec": pod}],
    }


def _text(value: str | int | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def predictors(obj: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The object's predictors by name, in order."""
    return {p["name"]: p for p in obj["spec"]["predictors"]}


def weights(obj: Mapping[str, Any]) -> dict[str, int]:
    """Percentage of requests by predictor, as the object asks for; a shadow has none and is not among them."""
    return {name: p.get("traffic", 0) for name, p in predictors(obj).items() if not p.get("shadow")}


def shadow(obj: Mapping[str, Any]) -> str | None:
    """The predictor that only gets copies of requests; None when there is none."""
    return next((name for name, p in predictors(obj).items() if p.get("shadow")), None)


def parameters(predictor: Mapping[str, Any]) -> dict[str, str]:
    """A predictor's class parameters as text by name."""
    return {p["name"]: p["value"] for p in predictor["graph"].get("parameters", [])}


def model_class(predictor: Mapping[str, Any]) -> str:
    """Dotted name of the Python class that the predictor's container serves; SeawayError without one."""
    for spec in predictor.get("componentSpecs", []):
        for container in spec["spec"].get("containers", []):
            for variable in container.get("env", []):
                if variable["name"] == CLASS_VARIABLE and container["name"] == predictor["graph"]["name"]:
                    return variable["value"]
    raise SeawayError(f"predictor {predictor['name']!r}: its container sets no {CLASS_VARIABLE}, the class to serve")


def with_traffic(obj: Mapping[str, Any], traffic: Mapping[str, int]) -> dict[str, Any]:
    """A copy with these weights; predictors that are not named are removed (never left at 0). Checked.

    Only predictors that callers reach can be named. A shadow stays while there are two of them: with one
    left there is nothing to compare.
    """
    unknown = set(traffic) - set(weights(obj))
    if unknown:
        raise SeawayError(f"{obj['metadata']['name']!r} has no predictor {', '.join(sorted(unknown))} to weigh")
    changed = copy.deepcopy(dict(obj))
    compared = len(traffic) > 1
    kept = [p for p in changed["spec"]["predictors"] if p["name"] in traffic or (p.get("shadow") and compared)]
    for predictor in kept:
        predictor["traffic"] = traffic.get(predictor["name"], predictor["traffic"])
    changed["spec"]["predictors"] = kept
    validate(changed)
    return changed


def validate(obj: Mapping[str, Any]) -> None:
    """Check what Seldon's own webhook does not: whole weights 0..100 that sum to 100, and unique good names.

    At most one predictor is a shadow, never the only one, and copies of 1 to 100 percent go to it (Istio
    would take 0 for all). Raises SeawayError that says which rule is broken and where.
    """
    if not isinstance(obj, Mapping) or obj.get("kind") != "SeldonDeployment" or obj.get("apiVersion") != API_VERSION:
        raise SeawayError(f"not a SeldonDeployment of {API_VERSION}")
    name = obj.get("metadata", {}).get("name")
    _check_name(name, "the deployment's name")
    _check_name(obj["metadata"].get("namespace", "default"), f"the namespace of {name!r}")
    listed = obj.get("spec", {}).get("predictors")
    if not isinstance(listed, list) or not listed:
        raise SeawayError(f"{name!r} has no predictors: give it at least one")
    for predictor in listed:
        _check_predictor(predictor, name)
    names = [p["name"] for p in listed]
    if len(set(names)) != len(names):
        raise SeawayError(f"{name!r} has predictors of the same name: {', '.join(names)}")
    shadows = [p["name"] for p in listed if p.get("shadow")]
    if len(shadows) > 1:
        raise SeawayError(f"{name!r} has {len(shadows)} shadows, {', '.join(shadows)}: at most one is allowed")
    if len(shadows) == len(listed):
        raise SeawayError(f"{name!r} has only the shadow {shadows[0]!r}: nobody would answer its callers")
    total = sum(weights(obj).values())
    if total != 100:
        raise SeawayError(f"the traffic of {name!r} sums to {total}, not to 100: {weights(obj)}")


def _check_predictor(predictor: Any, name: str) -> None:
    if not isinstance(predictor, Mapping):
        raise SeawayError(f"{name!r}: a predictor must be an object, not {predictor!r}")
    _check_name(predictor.get("name"), f"a predictor's name in {name!r}")
    where = f"{name!r}, predictor {predictor['name']!r}"
    if type(predictor.get("shadow", False)) is not bool:
        raise SeawayError(f"{where}: shadow {predictor['shadow']!r} is not true or false")
    weight, least = predictor.get("traffic", 0), int(predictor.get("shadow", False))
    if type(weight) is not int or not least <= weight <= 100:
        raise SeawayError(f"{where}: traffic {weight!r} is not a whole number from {least} to 100")
    if predictor.get("graph", {}).get("type") != "MODEL" or predictor["graph"].get("children"):
        raise SeawayError(f"{where}: its graph must be a single MODEL")


def _check_name(name: Any, what: str) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise SeawayError(f"{what} is {name!r}: use small letters, digits and hyphens, at most 53")
