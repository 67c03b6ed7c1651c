"""The RayJob that runs a sweep, a training or a scoring on a cluster, as a pure function of the configuration.

KubeRay 1.7 makes a Ray cluster for it, runs ``entry`` on the cluster's head and removes the cluster afterwards,
however the job ended. The head runs no trials, so that a spot node's end or a trial's memory never ends the sweep.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from seaway.artifacts import record_hash
from seaway.config import Config, StepResources, duration
from seaway.errors import SeawayError

API = "ray.io/v1"
SPEC = "seaway.dev/spec"  # annotation: hash of what was asked for
QUEUE = "kueue.x-k8s.io/queue-name"
GPU = "nvidia.com/gpu"
SPOT = "seaway.dev/spot"  # taint and label of nodes that may be taken away
HOME = "/home/seaway"
USER = 8888  # of the images
GROUP = "trials"
WHAT = "app.kubernetes.io/component"  # label: which of KINDS
_LABELS = {"app.kubernetes.io/managed-by": "seaway"}
_SECRET_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_CONTAINER = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
}


class Kind(NamedTuple):
    """``step`` names the folder of its entry point; the others are words for people; ``code``: the workload's runs."""

    step: str
    called: str
    kept: str
    code: bool = True


KINDS = {
    "sweep": Kind("tune", "the sweep", "epochs"),
    "train": Kind("train", "the training", "epochs"),
    "score": Kind("score", "the scoring", "partitions", code=False),
}


def kind(job: Mapping[str, Any]) -> Kind:
    """What a RayJob is for."""
    return KINDS.get(job["metadata"].get("labels", {}).get(WHAT, ""), KINDS["sweep"])


def ray_job(config: Config, name: str, entry: str, files: Mapping[str, str], what: str = "sweep") -> dict[str, Any]:
    """The manifest. ``entry``: a command line; ``files``: what -> URI, told in annotations; ``what``: a key of KINDS.

    Raises SeawayError for settings that the operator would take and that could not work.
    """
    ray = config.ray
    autoscale = _autoscales(config)
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": ray.namespace,
        "labels": _labels(config, what),
        "annotations": {f"seaway.dev/{file}": uri for file, uri in files.items()},
    }
    spec: dict[str, Any] = {
        "entrypoint": entry,
        "submissionMode": "HTTPMode",  # the operator hands it in: no further pod that could fail
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": 0,
        "activeDeadlineSeconds": int(duration(ray.deadline).total_seconds()),
        "backoffLimit": 0,  # the step's own retry goes on from the trials' checkpoints
        "rayClusterSpec": {
            "rayVersion": ray.version,
            "authOptions": {"mode": "token"},  # the operator makes the token; nobody else can hand in work
            "enableInTreeAutoscaling": autoscale,
            **({"autoscalerOptions": _AUTOSCALER} if autoscale else {}),
            "headGroupSpec": {
                "rayStartParams": {"dashboard-host": "0.0.0.0", "num-cpus": "0", "num-gpus": "0"},  # noqa: S104
                "template": _pod(config, "ray-head", ray.head, what, token=autoscale),
            },
            "workerGroupSpecs": [
                {
                    "groupName": GROUP,
                    "replicas": ray.workers,
                    "minReplicas": ray.workers,
                    "maxReplicas": ray.max_workers or ray.workers,
                    "rayStartParams": {"num-cpus": str(ray_cores(ray.worker))},
                    "template": _pod(config, "ray-worker", ray.worker, what, spot=ray.spot),
                }
            ],
        },
    }
    metadata["annotations"][SPEC] = record_hash({"metadata": metadata, "spec": spec})[:16]
    return {"apiVersion": API, "kind": "RayJob", "metadata": metadata, "spec": spec}


def _autoscales(config: Config) -> bool:
    ray = config.ray
    most = ray.max_workers or ray.workers
    if most < ray.workers:
        raise SeawayError(f"ray.max_workers is {most}, below ray.workers ({ray.workers}): raise it or leave it out")
    if most > ray.workers and ray.queue:
        raise SeawayError(
            f"ray.max_workers ({most}) is above ray.workers ({ray.workers}), and ray.queue is set: Kueue admits a "
            "job with a fixed number of workers. Set both to the same number, or leave ray.queue out"
        )
    if ray.worker.gpu and not ray.queue:
        raise SeawayError(
            f"ray.worker.gpu is {ray.worker.gpu} and ray.queue is not set: the platform admits pods with a GPU only "
            "with the name of a queue (infra/manifests/admission.yaml); set ray.queue to a LocalQueue of the namespace"
        )
    return most > ray.workers


def _pod(
    config: Config, container: str, needs: StepResources, what: str, *, spot: bool = False, token: bool = False
) -> dict[str, Any]:
    """A pod's template, which the Pod Security level `restricted` admits. ``token``: the autoscaler calls the API."""
    amounts = {"cpu": needs.cpu, "memory": needs.memory} | ({GPU: str(needs.gpu)} if needs.gpu else {})
    mounts = {"home": HOME, "tmp": "/tmp"}  # noqa: S108 (the pod's own)
    tolerations = [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}] if needs.gpu else []
    tolerations += [{"key": SPOT, "operator": "Exists", "effect": "NoSchedule"}] if spot else []
    spec: dict[str, Any] = {
        "serviceAccountName": config.ray.service_account,
        "automountServiceAccountToken": token,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": container,
                "image": config.ray.image,
                "imagePullPolicy": "IfNotPresent",
                "env": [*_environment(config)],
                "resources": {"requests": amounts, "limits": dict(amounts)},
                "securityContext": _CONTAINER,
                "volumeMounts": [{"name": name, "mountPath": path} for name, path in mounts.items()],
            }
        ],
        "volumes": [{"name": name, "emptyDir": {}} for name in mounts],
        "tolerations": tolerations,
    }
    if spot:
        wanted = {"matchExpressions": [{"key": SPOT, "operator": "Exists"}]}
        spec["affinity"] = {
            "nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 50, "preference": wanted}]}
        }
    return {"metadata": {"labels": _labels(config, what)}, "spec": spec}


def _labels(config: Config, what: str) -> dict[str, str]:
    """On the job, where Kueue looks, and on its pods, where the admission policy and people do."""
    return _LABELS | {WHAT: what} | ({QUEUE: config.ray.queue} if config.ray.queue else {})


def _environment(config: Config) -> list[dict[str, Any]]:
    plain = {"HOME": HOME, "RAY_USAGE_STATS_ENABLED": "0"}
    made: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in plain.items()]
    secret = config.storage.secret
    if secret:
        made += [{"name": k, "valueFrom": {"secretKeyRef": {"name": secret, "key": k}}} for k in _SECRET_KEYS]
    return made


def ray_cores(needs: StepResources) -> int:
    """What a worker's Ray counts with: whole cores, and at least one for each GPU."""
    amount = float(needs.cpu[:-1]) / 1000 if needs.cpu.endswith("m") else float(needs.cpu)
    return max(1, int(amount), needs.gpu)


_AUTOSCALER = {
    "idleTimeoutSeconds": 60,
    "resources": {"requests": {"cpu": "200m", "memory": "512Mi"}, "limits": {"cpu": "500m", "memory": "512Mi"}},
    "securityContext": _CONTAINER,
}
