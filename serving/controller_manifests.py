"""The controller in a cluster: one image, an account that may do what a release needs, and nothing else. Pure.

python -m serving.controller_manifests --env prod --claim ledger | kubectl apply -f -
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from seaway.errors import SeawayError
from seaway.keys import IN_PODS
from serving.pod_parts import Parts, storage_environment

NAME = "seaway-controller"
HOME = "/home/seaway"  # logs of decisions, journals, the ledger
METRICS_PORT = 8000
STUCK_S = 300  # a loop that has not come round for so long is restarted
_ALIVE = "import os, sys, time; sys.exit(time.time() - os.stat(sys.argv[1]).st_mtime > float(sys.argv[2]))"
# API group -> resource -> verbs. Whoever starts a release makes the object; the controller only changes it.
RIGHTS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "machinelearning.seldon.io": {"seldondeployments": ("get", "list", "update")},
    "networking.istio.io": {"virtualservices": ("get", "list")},
    "apps": {"deployments": ("get", "list")},
    "": {"pods": ("get", "list"), "events": ("create", "patch")},
    "coordination.k8s.io": {"leases": ("get", "create", "update")},
}


def controller(
    image: str,
    namespace: str,
    *,
    env: str = "prod",
    workload: str | None = None,
    releases: Sequence[str] = (),
    claim: str | None = None,
    mounts: Mapping[str, Mapping[str, Any]] | None = None,
    storage_secret: str | None = None,
    trust: str | None = None,
    schedule: str | None = None,
    resources: Mapping[str, Any] | None = None,
    name: str = NAME,
) -> list[dict[str, Any]]:
    """The objects to apply: ServiceAccount, a Role and RoleBinding a namespace, a Deployment or CronJob.

    ``releases``: namespaces of the released objects, ``namespace`` alone unless given. ``claim``: a volume
    claim for what the controller writes; without one its logs end with the pod, while the releases go on.
    ``mounts``: folder -> volume source, read only: configuration, the trusted key, and the bundles under the
    paths that the model servers have them at: without those nothing is promoted. Where labels confirm, also the
    prediction logs, the label feed and its key.
    ``storage_secret``: Secret with the keys of object storage, where bundles and prediction logs lie there.
    ``trust``: ConfigMap with the trusted key, as the servers have it (serving.trust).
    ``schedule``: a cron expression; then it takes one step at each time (``--once``) instead of running on.
    """
    if not re.fullmatch(r"\S+", image) or "{" in image:
        raise SeawayError(f"serving.controller_image is {image!r}: give a repository and a tag or digest")
    labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "seaway"}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _meta(name, namespace, labels)}
    # of the account itself: the token is mounted where it is used, in the pod
    objects = [account | {"automountServiceAccountToken": False}]
    for where in dict.fromkeys(releases or (namespace,)):
        objects += [_role(name, where, labels), _binding(name, where, namespace, labels)]
    mounts = dict(mounts or {}) | ({str(IN_PODS.parent): {"configMap": {"name": trust}}} if trust else {})
    pod = _pod(image, env, workload, claim, mounts, bool(schedule), resources, name)
    pod["containers"][0]["env"] += storage_environment(Parts(storage_secret=storage_secret))
    if schedule:
        objects.append(_cron_job(name, namespace, labels, pod, schedule))
    else:
        objects.append(_deployment(name, namespace, labels, pod))
    return objects


def _meta(name: str, namespace: str, labels: Mapping[str, str]) -> dict[str, Any]:
    return {"name": name, "namespace": namespace, "labels": dict(labels)}


def _role(name: str, namespace: str, labels: Mapping[str, str]) -> dict[str, Any]:
    rules = [
        {"apiGroups": [group], "resources": [resource], "verbs": list(verbs)}
        for group, resources in RIGHTS.items()
        for resource, verbs in resources.items()
    ]
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": _meta(name, namespace, labels),
        "rules": rules,
    }


def _binding(name: str, namespace: str, account_in: str, labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": _meta(name, namespace, labels),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": account_in}],
    }


def _pod(
    image: str,
    env: str,
    workload: str | None,
    claim: str | None,
    mounts: Mapping[str, Mapping[str, Any]],
    once: bool,
    resources: Mapping[str, Any] | None,
    account: str,
) -> dict[str, Any]:
    command = ["python", "-m", "serving.rollout.controller", "--env", env, "--home", HOME]
    command += ["--workload", workload] if workload else []
    container: dict[str, Any] = {
        "name": "controller",
        "image": image,
        "command": command + (["--once"] if once else ["--metrics-port", str(METRICS_PORT)]),
        "env": [{"name": "PYTHONDONTWRITEBYTECODE", "value": "1"}, {"name": "HOME", "value": "/tmp"}],  # noqa: S108
        "resources": dict(
            resources or {"requests": {"cpu": "100m", "memory": "160Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}}
        ),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "home", "mountPath": HOME}, {"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
    }
    given = {f"mount-{i}": (path, source) for i, (path, source) in enumerate(mounts.items())}
    container["volumeMounts"] += [{"name": n, "mountPath": p, "readOnly": True} for n, (p, _) in given.items()]
    if not once:
        container["ports"] = [{"name": "metrics", "containerPort": METRICS_PORT}]
        alive = {"exec": {"command": ["python", "-c", _ALIVE, f"{HOME}/run/alive", str(STUCK_S)]}}
        container["startupProbe"] = {**alive, "periodSeconds": 2, "failureThreshold": 60, "timeoutSeconds": 5}
        container["livenessProbe"] = {**alive, "periodSeconds": 60, "failureThreshold": 2, "timeoutSeconds": 10}
        container["readinessProbe"] = {**alive, "periodSeconds": 30, "failureThreshold": 2, "timeoutSeconds": 10}
    return {
        "serviceAccountName": account,
        "automountServiceAccountToken": True,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 8888,
            "runAsGroup": 8888,
            "fsGroup": 8888,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": 30,
        "containers": [container],
        "volumes": [
            {"name": "home", **({"persistentVolumeClaim": {"claimName": claim}} if claim else {"emptyDir": {}})},
            {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
            *({"name": n, **source} for n, (_, source) in given.items()),
        ],
    }


def _deployment(name: str, namespace: str, labels: Mapping[str, str], pod: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _meta(name, namespace, labels),
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},  # two would do no harm, but a volume may be held by one only
            "selector": {"matchLabels": {"app.kubernetes.io/name": name}},
            "template": {"metadata": {"labels": dict(labels)}, "spec": dict(pod)},
        },
    }


def _cron_job(
    name: str, namespace: str, labels: Mapping[str, str], pod: Mapping[str, Any], schedule: str
) -> dict[str, Any]:
    job = {
        "backoffLimit": 0,  # the next time comes soon
        "activeDeadlineSeconds": STUCK_S,
        "template": {"metadata": {"labels": dict(labels)}, "spec": {**pod, "restartPolicy": "Never"}},
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": _meta(name, namespace, labels),
        "spec": {
            "schedule": schedule,
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": STUCK_S,
            "successfulJobsHistoryLimit": 1,
            "failedJobsHistoryLimit": 3,
            "jobTemplate": {"spec": job},
        },
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the objects of an environment's configuration as one list."""
    from seaway.config import load

    parser = argparse.ArgumentParser(prog="python -m serving.controller_manifests")
    parser.add_argument("--env", default="prod")
    parser.add_argument("--claim", metavar="VOLUME_CLAIM", help="keeps decision logs and the ledger")
    parser.add_argument("--schedule", metavar="CRON", help="one step at each of these times instead of a Deployment")
    parser.add_argument(
        "--mount", action="append", default=[], metavar="FOLDER=KIND:NAME", help="read only: configmap, secret or claim"
    )
    args = parser.parse_args(arguments)
    config = load(args.env)
    serving = config.serving
    listed = controller(
        serving.controller_image,
        serving.namespace,
        env=args.env,
        claim=args.claim,
        mounts=dict(_mount(text) for text in args.mount),
        storage_secret=config.storage.secret,
        trust=serving.trust,
        schedule=args.schedule,
    )
    print(json.dumps({"apiVersion": "v1", "kind": "List", "items": listed}, indent=2))


def _mount(text: str) -> tuple[str, dict[str, Any]]:
    found = re.fullmatch(r"(/[^=]+)=(configmap|secret|claim):([a-z0-9][-a-z0-9.]*)", text)
    if not found:
        raise SeawayError(f"--mount {text!r} is not FOLDER=KIND:NAME, such as /etc/seaway=configmap:model-key")
    folder, kind, name = found.groups()
    sources = {
        "configmap": {"configMap": {"name": name}},
        "secret": {"secret": {"secretName": name, "defaultMode": 0o440}},  # a key that all can read is refused
        "claim": {"persistentVolumeClaim": {"claimName": name, "readOnly": True}},
    }
    return folder, sources[kind]


if __name__ == "__main__":
    main()
