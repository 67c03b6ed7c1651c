"""Pods and released objects, good and bad, that tests hand to a server."""

from __future__ import annotations

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
