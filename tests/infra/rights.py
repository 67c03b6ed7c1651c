"""Who may do what, and what not: the platform's accounts and people, as tests ask a server for it.

SERVING stands for the namespace of the environment's released models.
"""

from __future__ import annotations

RUNNER, RAY, CONTROLLER = "kubeflow/pipeline-runner", "training/seaway-ray", "seaway-system/seaway-controller"
SELDON, RAYJOBS, SECRETS = "machinelearning.seldon.io/seldondeployments", "ray.io/rayjobs", "/secrets"
MAY = [
    (RUNNER, ["create", "get", "list", "watch", "delete"], RAYJOBS, "training"),
    (RUNNER, ["get", "list", "watch", "delete"], "ray.io/rayclusters", "training"),
    (RUNNER, ["create", "get", "list", "update"], SELDON, "SERVING"),
    (RUNNER, ["get", "list"], "networking.istio.io/virtualservices", "SERVING"),
    (RUNNER, ["get", "list"], "apps/deployments", "SERVING"),
    (RUNNER, ["get", "list"], "/pods", "SERVING"),
    (RAY, ["get", "list", "watch"], "/pods", "training"),
    (CONTROLLER, ["get", "list", "update"], SELDON, "SERVING"),
    (CONTROLLER, ["get", "list"], "networking.istio.io/virtualservices", "SERVING"),
]
MAY_NOT = [
    (RUNNER, ["get", "list"], SECRETS, "training"),
    (RUNNER, ["get", "list"], SECRETS, "SERVING"),
    (RUNNER, ["delete"], SELDON, "SERVING"),
    (RUNNER, ["create", "delete"], "/pods", "SERVING"),
    (RUNNER, ["get", "create", "delete"], "/pods", "training"),
    (RUNNER, ["patch"], RAYJOBS, "training"),
    (RUNNER, ["create"], "/pods/exec", "training"),
    (RUNNER, ["create"], RAYJOBS, "SERVING"),
    (RUNNER, ["create", "update"], "networking.istio.io/virtualservices", "SERVING"),
    (RUNNER, ["list"], "/nodes", ""),
    (RUNNER, ["create", "bind"], "rbac.authorization.k8s.io/rolebindings", "training"),
    (RAY, ["create", "delete", "patch"], "/pods", "training"),
    (RAY, ["get"], SECRETS, "training"),
    (RAY, ["get"], "/pods", "SERVING"),
    (RAY, ["create"], RAYJOBS, "training"),
    (CONTROLLER, ["create", "delete"], SELDON, "SERVING"),
    (CONTROLLER, ["get", "list"], SECRETS, "SERVING"),
    (CONTROLLER, ["get", "list"], SECRETS, "seaway-system"),
    (CONTROLLER, ["get"], SELDON, "training"),
    (CONTROLLER, ["get", "list"], "/pods", "kubeflow"),
    ("SERVING/seaway-serving", ["get", "list"], "/pods", "SERVING"),
    ("SERVING/default", ["get"], SECRETS, "SERVING"),
    ("training/default", ["get", "list"], "/pods", "training"),
]
VIEWER_MAY = [
    (["get", "list", "watch"], "/pods", "training"),
    (["get"], "/pods/log", "SERVING"),
    (["get", "list"], SELDON, "SERVING"),
    (["get", "list"], RAYJOBS, "training"),
    (["get", "list"], "/resourcequotas", "SERVING"),
    (["get", "list"], "/namespaces", ""),
    (["list"], "apiextensions.k8s.io/customresourcedefinitions", ""),
]
VIEWER_MAY_NOT = [
    (["get", "list"], SECRETS, "SERVING"),
    (["create", "delete"], "/pods", "training"),
    (["create", "update"], SELDON, "SERVING"),
    (["create"], "/pods/portforward", "kubeflow"),
    (["get", "list"], "/pods", "kube-system"),
]
ENGINEER_MAY = [
    *VIEWER_MAY,
    (["create", "patch", "delete"], RAYJOBS, "training"),
    (["create", "update", "patch"], SELDON, "SERVING"),
    (["create"], "/pods/portforward", "kubeflow"),
    (["delete"], "/pods", "training"),
]
ENGINEER_MAY_NOT = [
    (["get", "list"], SECRETS, "SERVING"),
    (["get", "list"], SECRETS, "kubeflow"),
    (["delete"], SELDON, "SERVING"),
    (["create"], "/pods/exec", "SERVING"),
    (["create"], "/pods", "SERVING"),
    (["update", "patch"], "/resourcequotas", "training"),
    (["update", "patch"], "/namespaces", ""),
    (["delete"], "apps/statefulsets", "features"),
]
ADMIN_MAY = [
    *ENGINEER_MAY,
    (["get", "create", "update"], SECRETS, "features"),
    (["create"], "/pods/exec", "SERVING"),
    (["delete"], SELDON, "SERVING"),
    (["patch"], "apps/statefulsets", "features"),
]
ADMIN_MAY_NOT = [  # those come from the program
    (["update", "patch", "delete"], "/resourcequotas", "training"),
    (["update", "delete"], "networking.k8s.io/networkpolicies", "SERVING"),
    (["create", "update"], "rbac.authorization.k8s.io/rolebindings", "SERVING"),
    (["update", "delete"], "/namespaces", ""),
    (["get"], SECRETS, "kube-system"),
    (["update"], "admissionregistration.k8s.io/validatingadmissionpolicies", ""),
]


def answers(server, who, rows, serving):
    """{"who verb what namespace": may}"""
    made = {}
    for verbs, what, namespace in rows:
        for verb in verbs:
            subject, place = (text.replace("SERVING", serving) for text in (who, namespace))
            made[f"{subject} {verb} {what} {place}"] = server.may(subject, verb, what, place)
    return made
