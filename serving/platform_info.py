"""Which platform a cluster is: what `pulumi up` wrote into it about itself."""

from __future__ import annotations

from collections.abc import Callable

from seaway.config import Config, Infrastructure
from seaway.errors import NotFound, SeawayError
from seaway.kube_api import Api
from serving.pod_parts import PLATFORM


def with_infrastructure(config: Config, api: Api | None = None, on_event: Callable[[str], None] = print) -> Config:
    """The configuration with the stack and update that its cluster is on; unchanged where nothing runs on one.

    A cluster without the record, or one that cannot be asked from here (a person may reach Kubeflow's API alone),
    is "unknown", and that is said.
    """
    namespace = _namespace(config)
    if namespace is None or config.infrastructure.stack != Infrastructure().stack:
        return config
    try:
        found = (api or Api(config.serving.context)).get(f"/api/v1/namespaces/{namespace}/configmaps/{PLATFORM}")
        data = found.get("data") or {"stack": "unknown"}
    except NotFound:
        on_event(
            f"namespace {namespace} has no ConfigMap {PLATFORM}: the infrastructure's version is recorded as unknown"
        )
        data = {"stack": "unknown"}
    except SeawayError as error:
        on_event(f"the infrastructure's version is recorded as unknown: {error}")
        data = {"stack": "unknown"}
    known = {key: str(data.get(key, "")) for key in ("stack", "update", "digest")}
    return config.model_copy(update={"infrastructure": Infrastructure(**known)})


def _namespace(config: Config) -> str | None:
    if config.serving.substrate == "kubernetes":
        return config.serving.namespace
    return config.pipeline.namespace if config.pipeline.host else None
