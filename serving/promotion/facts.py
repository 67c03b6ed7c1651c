"""What is found of the environment that a bundle is to move to: its configuration, online store and cluster."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from seaway.config import Config
from seaway.errors import NotFound, SeawayError
from seaway.hooks import resolve
from seaway.keys import public_key
from seaway.kube_api import Api, Unavailable
from serving.controller_manifests import NAME as CONTROLLER
from serving.pod_parts import PLATFORM
from serving.promotion.checks import Target

KEY_FILE = "model.pub"  # in the ConfigMap serving.trust
_SELDON = "machinelearning.seldon.io"


def target_of(config: Config, distrusts: str, api: Api | None = None) -> Target:
    """The facts. ``distrusts``: why the bundle's signature does not hold with the environment's key, or ""."""
    pods = config.serving.substrate != "local"
    return Target(
        env=config.env,
        workload=config.workload.name,
        features=resolve(config.workload.features, config.root).hash,
        guardrails=guardrails_of(config),
        distrusts=distrusts,
        pods=pods,
        storage=config.storage.uri is not None,
        store=_no_pods_can_share(config) if pods else _unreachable(config),
        platform=tuple(_platform(config, api or Api(config.serving.context))) if pods else (),
    )


def guardrails_of(config: Config) -> frozenset[str]:
    """Names of all that a canary is judged by."""
    return frozenset(config.release.guardrails) | ({"labels"} if config.release.labels else set())


def _no_pods_can_share(config: Config) -> str:
    if config.online_store.type != "redis":
        return "pods cannot share a file of one machine: set online_store.type to redis"
    return "" if config.online_store.connection else "online_store.connection is not set"


def _unreachable(config: Config) -> str:
    """Why the online store of this machine does not answer; a file is made when it is filled."""
    from seaway.online import OnlineReader, project_name
    from serving.release_plan import online_store

    if config.online_store.type != "redis":
        return ""
    spec = resolve(config.workload.features, config.root)
    try:
        reader = OnlineReader(online_store(config, "promotion"), project_name(config.workload.name), spec)
        reader.ping()
    except (SeawayError, OSError) as error:
        return str(error)
    return ""


def _platform(config: Config, api: Api) -> list[str]:
    """What a release needs of the cluster and is not there."""
    namespace = config.serving.namespace
    looks: tuple[Any, ...] = (
        (f"/apis/{_SELDON}/v1", "Seldon Core is not installed", None),
        (f"/api/v1/namespaces/{namespace}/configmaps/{PLATFORM}",
         f"namespace {namespace} is not one of its own: `make up ENV={config.env}`", None),
        (f"/apis/apps/v1/namespaces/{config.serving.controller_namespace}/deployments/{CONTROLLER}",
         "there is no release controller", _not_running),
    )  # fmt: skip
    if key := config.serving.trust:
        path = f"/api/v1/namespaces/{namespace}/configmaps/{key}"
        looks += ((path, f"{namespace} has no key to trust, ConfigMap {key}", lambda it: _other_key(it, config)),)
    if account := config.serving.service_account:
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}"
        looks += ((path, f"{namespace} has no service account {account} for the servers' pods", None),)
    asks: list[Callable[[], str]] = [partial(_look, api, *look) for look in looks]
    asks += [partial(_may_not, api, verb, namespace) for verb in ("get", "create", "update")]
    if config.online_store.connection:
        asks.append(partial(_silent, api, config.online_store.connection))
    lacks: list[str] = []
    for ask in asks:
        try:
            text = ask()
        except Unavailable as error:  # nor would it answer what is left to ask, each after its time limit
            return [*lacks, str(error)]
        except SeawayError as error:
            text = str(error)
        if text and text not in lacks:  # without a kubeconfig each says the same
            lacks.append(text)
    return lacks


def _look(api: Api, path: str, absent: str, judge: Callable[[dict[str, Any]], str] | None) -> str:
    try:
        found = api.get(path)
    except NotFound:
        return absent
    return judge(found) if judge else ""


def _other_key(found: dict[str, Any], config: Config) -> str:
    there = (found.get("data") or {}).get(KEY_FILE, "")
    here = Path(public_key(config, make=False)).read_text()
    same = there.split() == here.split()
    return "" if same else f"its ConfigMap {config.serving.trust} holds another key than trust.public_key"


def _not_running(found: dict[str, Any]) -> str:
    ready = (found.get("status") or {}).get("readyReplicas", 0)
    return "" if ready else "the release controller is not ready: nobody would decide about the canary"


def _may_not(api: Api, verb: str, namespace: str) -> str:
    wish = {"group": _SELDON, "resource": "seldondeployments", "verb": verb, "namespace": namespace}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": wish},
    }
    answer = api.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
    if (answer.get("status") or {}).get("allowed"):
        return ""
    return f"this account may not {verb} SeldonDeployments in {namespace}: ask for the role engineer"


def _silent(api: Api, connection: str) -> str:
    """Why the online store's service has nobody behind it; a host outside of the cluster is not looked at."""
    name, _, namespace = connection.partition(",")[0].partition(":")[0].partition(".")
    namespace = namespace.removesuffix(".svc.cluster.local").removesuffix(".svc")
    if not namespace or "." in namespace:
        return ""
    path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    try:
        slices = api.get(path, labelSelector=f"kubernetes.io/service-name={name}").get("items", [])
    except Unavailable:
        raise
    except SeawayError as error:
        return f"the online store {connection} cannot be looked at: {error}"
    ends = [end for piece in slices for end in piece.get("endpoints") or []]
    if any((end.get("conditions") or {}).get("ready") is not False for end in ends):  # null: unknown, taken as ready
        return ""
    return f"the online store's service {name} in {namespace} has no pod that is ready"
