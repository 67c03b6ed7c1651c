"""Pods and released objects, good and bad, that tests hand to a server."""

from __future__ import annotations

import json

from infra.policies.rules import Resource

RESTRICTED = {
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
RESOURCES = {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "16Mi"}}
CONTAINER = {"name": "main", "image": "registry.example.com/a:1", "securityContext": RESTRICTED, "resources": RESOURCES}


def pod(namespace, name="tried", labels=None, **spec):
    container = {**CONTAINER, **spec.pop("container", {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels or {}},
        "spec": {"containers": [container], **spec},
    }


def release(namespace, *predictors):
    graph = {"name": "model", "type": "MODEL"}
    specs = [{"spec": {"containers": [CONTAINER]}}]
    listed = [{"name": f"p{i}", "graph": graph, "componentSpecs": specs, **p} for i, p in enumerate(predictors)]
    return {
        "apiVersion": "machinelearning.seldon.io/v1",
        "kind": "SeldonDeployment",
        "metadata": {"name": "tried", "namespace": namespace},
        "spec": {"predictors": listed},
    }


SHADOW = {"shadow": True, "traffic": 20}


BAD_PODS = [
    ({"container": {"securityContext": {**RESTRICTED, "runAsNonRoot": False}}}, "violates PodSecurity"),
    ({"container": {"securityContext": {}}}, "violates PodSecurity"),
    ({"container": {"securityContext": {"privileged": True}}}, "privileged"),
    ({"hostNetwork": True}, "host"),
    ({"volumes": [{"name": "host", "hostPath": {"path": "/"}}]}, "hostPath"),
    ({"container": {"image": "registry.example.com/a"}}, "images must be pinned"),
    ({"container": {"image": "registry.example.com/a:latest"}}, "images must be pinned"),
    ({"initContainers": [{**CONTAINER, "name": "init", "image": "a"}]}, "images must be pinned"),
    ({"container": {"resources": {"requests": {"cpu": "9999"}}}}, "exceeded quota"),
    ({"container": {"resources": {"requests": {"memory": "9Ti"}, "limits": {"memory": "9Ti"}}}}, "exceeded quota"),
]


SHADOW = {"shadow": True, "traffic": 20}
GOOD_WEIGHTS = [
    [{"traffic": 100}],
    [{}],
    [{"traffic": 90}, {"traffic": 10}],
    [{"traffic": 100}, {"traffic": 0}],
    [{"traffic": 100}, SHADOW],
    [{"traffic": 60}, {"traffic": 40}, SHADOW],
]
BAD_WEIGHTS = [
    ([{"traffic": -10}, {"traffic": 110}], "0 to 100"),
    ([{"traffic": 200}, {"traffic": -100}], "0 to 100"),
    ([{"traffic": 90}, {"traffic": 20}], "sum to 100"),
    ([{"traffic": 90}, {"traffic": 5}], "sum to 100"),
    ([{"traffic": 90}], "sum to 100"),
    ([{"traffic": 80}, SHADOW], "sum to 100"),
    ([{"traffic": 100, "shadow": True}], "no shadow"),
    ([], "no shadow"),
    ([{"traffic": 100}, {"shadow": True}], "1 to 100"),
    ([{"traffic": 100}, SHADOW, SHADOW], "at most one"),
]


def pods_of(manifest):
    """The pods that a controller would make of it, as it would: claims are volumes by then."""
    for one in Resource("kubernetes:", manifest["metadata"]["name"], manifest).pods():
        spec = json.loads(json.dumps(one.spec))
        claims = manifest["spec"].get("volumeClaimTemplates", ())
        spec["volumes"] = [*spec.get("volumes", ()), *({"name": c["metadata"]["name"], "emptyDir": {}} for c in claims)]
        if manifest["kind"] in ("Job", "CronJob"):
            spec["restartPolicy"] = "Never"
        meta = {"name": "tried", "namespace": manifest["metadata"]["namespace"], "labels": dict(one.labels)}
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}
