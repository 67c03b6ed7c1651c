"""What a model server's pod gets beside its container: the bundle, the trusted key, secrets as environment. Pure.

A bundle that is a URI is fetched and checked by an init container, into a volume that the server only reads. So
the server starts with its model there, and needs no access to storage unless it logs its answers there.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from seaway.errors import SeawayError
from seaway.keys import IN_PODS
from seaway.online_stores import PASSWORD
from seaway.storage import ENDPOINT, REGION, is_uri

if TYPE_CHECKING:
    from seaway.config import Config

PLATFORM = "seaway-platform"  # ConfigMap in which each namespace of a platform has its version
STACK, UPDATE = "SEAWAY_STACK", "SEAWAY_STACK_UPDATE"  # of the platform that the server runs on
BUNDLE = "SEAWAY_BUNDLE"  # the folder in which the server finds a bundle that is named by its URI
VOLUME = "/bundle"  # where it is mounted
FOLDER = f"{VOLUME}/model"
VOLUME_SIZE = "2Gi"  # of a bundle at the most
FETCHER = {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}}
CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@dataclass(frozen=True)
class Parts:
    """Names of what is in the namespace, and where storage is; nothing of it is a secret itself."""

    endpoint: str | None = None
    region: str | None = None
    storage_secret: str | None = None  # Secret with the keys CREDENTIALS
    password_secret: str | None = None  # Secret with the key ``password`` of the online store
    trust: str | None = None  # ConfigMap with model.pub
    platform: str | None = None  # ConfigMap with the platform's stack and update, as of when a pod starts
    service_account: str | None = None  # whose workload identity may use the storage; None: the namespace's default

    @classmethod
    def of(cls, config: Config) -> Parts:
        storage = config.storage
        return cls(
            storage.endpoint,
            storage.region,
            storage.secret,
            config.online_store.password_secret if config.online_store.type == "redis" else None,
            config.serving.trust,
            PLATFORM if config.serving.substrate != "local" else None,
            config.serving.service_account,
        )


def furnish(pod: dict[str, Any], values: Mapping[str, Any], parts: Parts) -> None:
    """Add to ``pod``, whose only container is the server with the class parameters ``values``, what it needs.

    Raises SeawayError for a bundle that is a URI without digest or key: no pod could check it.
    """
    server = pod["containers"][0]
    if parts.service_account:
        pod["serviceAccountName"] = parts.service_account
    trusts = bool(parts.trust) and values.get("public_key") == str(IN_PODS)
    if trusts:
        # no subPath: then a new key would reach running pods
        pod["volumes"].append({"name": "trust", "configMap": {"name": parts.trust}})
        server["volumeMounts"].append({"name": "trust", "mountPath": str(IN_PODS.parent), "readOnly": True})
    if parts.platform:
        # as environment of a name that may be missing: an update of the platform rolls no pod
        for variable, key in ((STACK, "stack"), (UPDATE, "update")):
            source = {"name": parts.platform, "key": key, "optional": True}
            server["env"].append({"name": variable, "valueFrom": {"configMapKeyRef": source}})
    if parts.password_secret:
        server["env"].append(_secret(PASSWORD, parts.password_secret, "password"))
    if is_uri(str(values.get("log", ""))):
        server["env"] += storage_environment(parts)
    if is_uri(str(values["bundle"])):
        if missing := [name for name in ("digest", "public_key") if not values.get(name)]:
            raise SeawayError(
                f"the bundle {values['bundle']} would be fetched by its pod, which cannot check it without the "
                f"predictor's parameter {' and '.join(missing)}: release a version that is signed"
            )
        pod["volumes"].append({"name": "bundle", "emptyDir": {"sizeLimit": VOLUME_SIZE}})
        pod["initContainers"] = [_fetcher(server, values, parts)]
        server["volumeMounts"].append({"name": "bundle", "mountPath": VOLUME, "readOnly": True})
        server["env"].append({"name": BUNDLE, "value": FOLDER})


def storage_environment(parts: Parts) -> list[dict[str, Any]]:
    """How a process in a pod reaches the storage: where it is, and the keys' names."""
    places = {ENDPOINT: parts.endpoint, REGION: parts.region}
    found: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in places.items() if value]
    return found + [_secret(name, parts.storage_secret, name) for name in CREDENTIALS if parts.storage_secret]


def _fetcher(server: Mapping[str, Any], values: Mapping[str, Any], parts: Parts) -> dict[str, Any]:
    command = ["python", "-m", "serving.fetch_bundle", "--uri", str(values["bundle"]), "--folder", FOLDER]
    command += ["--digest", str(values["digest"]), "--key", str(values["public_key"])]
    # the same key and mounts as the server, which have been added by now; the volume, to write
    mounts = [*server["volumeMounts"], {"name": "bundle", "mountPath": VOLUME}]
    return {
        "name": "bundle",
        "image": server["image"],
        "command": command,
        "env": storage_environment(parts),
        "resources": deepcopy(FETCHER),
        "securityContext": dict(server["securityContext"]),
        "volumeMounts": mounts,
    }


def _secret(variable: str, secret: str | None, key: str) -> dict[str, Any]:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}
