"""Calls of a Kubernetes API server: each once, with a time limit, and failures in plain words.

Objects are plain dicts. The ``kubernetes`` package finds the server and the account and renews tokens; its
typed models are not used: of 30 MB a list of pods needs none, and a dict keeps fields that a model drops.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from seaway.errors import Conflict, NotFound, SeawayError

SECONDS = (3.0, 10.0)  # to connect, to answer
_PATCH = "application/merge-patch+json"


class Unavailable(SeawayError):
    """The server did not do it now and may do it later: overloaded, unreachable, or its webhook is down."""


class Api:
    """One API server. ``context``: of the kubeconfig; None: the current one, or the pod's own account."""

    def __init__(self, context: str | None = None, kubeconfig: str | None = None, seconds: Any = SECONDS):
        self.context, self.kubeconfig, self.seconds = context, kubeconfig, seconds
        self._made: Any = None

    def get(self, path: str, **query: str) -> dict[str, Any]:
        return self._call("GET", path, None, query)

    def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._call("POST", path, body, {})

    def replace(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._call("PUT", path, body, {})

    def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """A merge patch."""
        return self._call("PATCH", path, body, {})

    def delete(self, path: str) -> None:
        self._call("DELETE", path, None, {})

    def _client(self) -> Any:
        if self._made is None:
            from kubernetes import client, config

            settings = client.Configuration()
            settings.retries = False  # a second try belongs to the caller, who looks first what the first one did
            try:
                if self.context is None and self.kubeconfig is None and "KUBERNETES_SERVICE_HOST" in os.environ:
                    config.load_incluster_config(client_configuration=settings)
                else:
                    config.load_kube_config(self.kubeconfig, self.context, client_configuration=settings)
            except Exception as error:  # ConfigException, or a YAML or key error of a broken file
                raise SeawayError(
                    f"no Kubernetes cluster is configured ({error}): set KUBECONFIG, the context in the configuration "
                    "(serving.context, ray.context), or run in a pod with a service account"
                ) from None
            self._made = client.ApiClient(settings)
        return self._made

    def _call(self, method: str, path: str, body: Any, query: Mapping[str, str]) -> dict[str, Any]:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        kind = _PATCH if method == "PATCH" else "application/json"
        try:
            answer = self._client().call_api(
                path,
                method,
                query_params=list(query.items()),
                header_params={"Accept": "application/json", "Content-Type": kind},
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _return_http_data_only=True,
                _request_timeout=self.seconds,
            )
            return json.loads(answer.data)
        except ApiException as error:
            if not error.status:  # the connection was not made: a broken handshake, or a certificate
                raise _unsafe(method, path, str(error.reason)) from None
            raise _failure(method, path, error.status, error.body) from None
        except (HTTPError, OSError) as error:
            unknown = "" if method == "GET" else "; whether it was carried out is not known: read the object again"
            raise Unavailable(f"the Kubernetes API did not answer {method} {path} ({_cause(error)}){unknown}") from None
        except ValueError as error:
            raise Unavailable(f"the Kubernetes API gave no JSON for {method} {path}: {error}") from None


def _unsafe(method: str, path: str, reason: str) -> SeawayError:
    """The error of a connection that TLS did not make."""
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        return SeawayError(
            f"the Kubernetes API's certificate is not the one that the kubeconfig trusts: {method} {path} ({reason})"
        )
    return Unavailable(f"the Kubernetes API did not answer {method} {path} ({reason})")


def _failure(method: str, path: str, status: int, body: Any) -> SeawayError:
    """The error of an answer that is not 2xx."""
    try:
        said = json.loads(body)
        message, reason = str(said.get("message", "")), said.get("reason", "")
    except (ValueError, TypeError, AttributeError):
        message, reason = str(body or "no reason was given")[:300], ""
    what = f"{method} {path}: {message}"
    if "failed calling webhook" in message:
        return Unavailable(
            "nothing was written: the webhook that checks such objects does not answer; "
            f"see that its operator runs ({message})"
        )
    if status == 404:
        return NotFound(f"there is no such object: {what}")
    if status == 409:
        return Conflict(f"exists already: {what}" if reason == "AlreadyExists" else f"changed by someone else: {what}")
    if status in (401, 403):
        return SeawayError(f"this account may not do that ({status}): {what}")
    if status == 429:
        return Unavailable(f"the Kubernetes API is overloaded and refused ({status}): {what}")
    if status >= 500:
        return Unavailable(f"the Kubernetes API failed ({status}): {what}")
    return SeawayError(f"the Kubernetes API refused ({status}): {what}")


def _cause(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"
