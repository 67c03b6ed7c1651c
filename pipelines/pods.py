"""What a step's pod gets on a cluster: a configuration without paths of this machine, secrets, keys, a place to work.

The project lies at /app in the images of images/; pods run as user 8888. Secrets and keys are Kubernetes objects
that the platform program makes; only their names stand here and in the configuration.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from seaway.config import Config, project_root
from seaway.errors import SeawayError

if TYPE_CHECKING:
    from kfp import dsl

APP = PurePosixPath("/app")
HOME = Path("/home/seaway")
KEYS = "model-key"  # Secret with model.pem, which signs; ConfigMap with model.pub, which is trusted
PRIVATE, PUBLIC = PurePosixPath("/var/run/seaway/sign"), PurePosixPath("/var/run/seaway/trust")
SPOT = "seaway.dev/spot"  # taint and label of nodes that may be taken away
QUEUE = "kueue.x-k8s.io/queue-name"
SIGN = frozenset({"register"})
TRUST = frozenset({"evaluate", "register", "release", "start", "score"})
ONLINE = frozenset({"dataset", "release", "start"})  # steps that may open the online store

Furnish = Callable[["dsl.PipelineTask", str], Any]


def pod_config(config: Config) -> Config:
    """The configuration as the pods read it: places of the image instead of this machine's.

    Raises SeawayError for a workload or a source that lies outside of the project's folder: no image has it.
    """
    from seaway.storage import is_uri

    root = project_root()
    if not config.workload_file.is_relative_to(root):
        raise SeawayError(
            f"the workload's file {config.workload_file} is not in {root}, so the pods' image lacks it: move it there, "
            "with the code that it names, and build the images anew (`make images`)"
        )
    for name, source in config.workload.sources.items():
        if source.path and not is_uri(source.path) and Path(source.path).expanduser().is_absolute():
            raise SeawayError(
                f"workload.sources.{name}.path is {source.path}, a place of this machine that no pod sees: "
                "put the data into object storage and name its URI, such as s3://bucket/events"
            )
    return config.model_copy(
        update={
            "home": HOME,
            "workload_file": Path(APP / config.workload_file.relative_to(root)),
            # contexts are names of a person's kubeconfig; a pod has its own account
            "ray": config.ray.model_copy(update={"context": None}),
            "serving": config.serving.model_copy(update={"context": None}),
            "pipeline": config.pipeline.model_copy(update={"token_file": None, "ca_file": None, "digest": ""}),
            "trust": config.trust.model_copy(
                update={
                    "private_key": config.trust.private_key or str(PRIVATE / "model.pem"),
                    "public_key": config.trust.public_key or str(PUBLIC / "model.pub"),
                }
            ),
        }
    )


def check_shared(config: Config) -> None:
    """Steps are pods of different nodes: what they share must not be a file. SeawayError names each that is."""
    wrong = []
    if config.storage.uri is None or config.storage.uri.startswith("file:"):
        wrong.append("storage.uri must be object storage, such as s3://bucket/prefix")
    if "://" not in (config.tracking_uri or "") or config.tracking_uri.startswith(("sqlite:", "file:")):
        wrong.append("tracking_uri must be an MLflow server, such as http://mlflow.tracking:5000")
    if config.online_store.type == "sqlite":
        wrong.append("online_store.type must be redis")
    if wrong:
        raise SeawayError(
            f"config/{config.env}.yaml runs the pipeline on a cluster (pipeline.host), whose pods share no files:\n  "
            + "\n  ".join(wrong)
        )


def furnish(config: Config) -> Furnish:
    """A function that gives a task of the pipeline what its pod needs beside image and resources."""
    from kfp import kubernetes

    def apply(task: dsl.PipelineTask, step: str) -> dsl.PipelineTask:
        kubernetes.set_security_context(task, run_as_user=8888, run_as_group=8888, run_as_non_root=True)
        kubernetes.empty_dir_mount(task, volume_name="home", mount_path=str(HOME))
        kubernetes.empty_dir_mount(task, volume_name="tmp", mount_path="/tmp")  # noqa: S108
        if config.storage.secret:
            names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
            kubernetes.use_secret_as_env(task, config.storage.secret, {name: name for name in names})
        if config.online_store.password_secret and step in ONLINE:
            secret = config.online_store.password_secret
            kubernetes.use_secret_as_env(task, secret, {"password": "SEAWAY_REDIS_PASSWORD"})
        if step in SIGN and not config.trust.private_key:
            kubernetes.use_secret_as_volume(task, KEYS, mount_path=str(PRIVATE))
        if step in TRUST and not config.trust.public_key:
            kubernetes.use_config_map_as_volume(task, KEYS, mount_path=str(PUBLIC))
        if config.pipeline.spot:
            kubernetes.add_toleration(task, key=SPOT, operator="Exists", effect="NoSchedule")
            wanted = [{"key": SPOT, "operator": "Exists"}]
            kubernetes.add_node_affinity(task, match_expressions=wanted, weight=50)
        needs = config.pipeline.resources.get(step)
        if config.pipeline.queue and needs and needs.gpu:
            kubernetes.add_pod_label(task, QUEUE, config.pipeline.queue)
        return task

    return apply
