"""Ten changes that a hand makes on a cluster, by the name of the resource that then is not as the program says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests.infra.api_server import Server

Act = Callable[[Server], None]


def patch(version: str, kind: str, namespace: str, name: str, body: Mapping[str, Any]) -> Act:
    meta = {"name": name, **({"namespace": namespace} if namespace else {})}
    manifest = {"apiVersion": version, "kind": kind, "metadata": meta}

    def act(server: Server) -> None:
        server.call("PATCH", server.path(manifest), body, form="application/merge-patch+json", fieldManager="a-hand")

    return act


def delete(version: str, kind: str, namespace: str, name: str) -> Act:
    manifest = {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, **({"namespace": namespace} if namespace else {})},
    }
    return lambda server: server.delete(manifest)


RBAC, NET, ADMISSION = "rbac.authorization.k8s.io/v1", "networking.k8s.io/v1", "admissionregistration.k8s.io/v1"
SOMEBODY = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "somebody"}
DRIFTS: dict[str, Act] = {
    "training-quota-resourcequota": patch(
        "v1", "ResourceQuota", "training", "quota", {"spec": {"hard": {"requests.nvidia.com/gpu": "9"}}}
    ),
    "serving-dev-limits-limitrange": delete("v1", "LimitRange", "serving-dev", "limits"),
    "kubeflow-namespace": patch(
        "v1",
        "Namespace",
        "",
        "kubeflow",
        {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}},
    ),
    "serving-dev-default-deny-networkpolicy": delete(NET, "NetworkPolicy", "serving-dev", "default-deny"),
    "training-allow-out-networkpolicy": patch(
        NET, "NetworkPolicy", "training", "allow-out", {"spec": {"egress": [{}]}}
    ),
    "serving-dev-seaway-engineer-rolebinding": patch(
        RBAC, "RoleBinding", "serving-dev", "seaway-engineer", {"subjects": [SOMEBODY]}
    ),
    "features-redis-secret": patch("v1", "Secret", "features", "redis", {"stringData": {"password": "guessed"}}),
    "features-redis-configmap": patch(
        "v1", "ConfigMap", "features", "redis", {"data": {"redis.conf": "protected-mode no"}}
    ),
    "features-feature-server-deployment": patch(
        "apps/v1", "Deployment", "features", "feature-server", {"spec": {"replicas": 0}}
    ),
    # not its list of actions: that is a set, in which what a hand has added stays until a hand removes it
    "seaway-weights-validatingadmissionpolicybinding": delete(
        ADMISSION, "ValidatingAdmissionPolicyBinding", "", "seaway-weights"
    ),
}
