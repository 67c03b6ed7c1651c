"""A real API server for tests: what the program makes is applied as Pulumi does it, and taken away again."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from kubernetes import client, config

# kinds of operators that may not be there: enough of a definition to hold what we write, group/version -> kinds
KINDS = {
    "machinelearning.seldon.io/v1": ["SeldonDeployment"],
    "ray.io/v1": ["RayJob", "RayCluster"],
    "networking.istio.io/v1": ["Gateway"],
    "networking.istio.io/v1beta1": ["Gateway", "VirtualService"],
    "monitoring.coreos.com/v1": ["PodMonitor", "ServiceMonitor", "PrometheusRule"],
    "kueue.x-k8s.io/v1beta2": ["ResourceFlavor", "ClusterQueue", "LocalQueue"],
    "cert-manager.io/v1": ["Certificate", "Issuer", "ClusterIssuer"],
}
CLUSTER_WIDE = {"ResourceFlavor", "ClusterQueue", "ClusterIssuer"}
FREE = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


class Refused(Exception):
    """The server's answer was no: its status and what it said."""

    def __init__(self, status: int, text: str):
        super().__init__(f"{status}: {text}")
        self.status, self.text = status, text


class Server:
    def __init__(self, kubeconfig: str):
        settings = client.Configuration()
        config.load_kube_config(kubeconfig, client_configuration=settings)
        self._client = client.ApiClient(settings)
        self._found: dict[str, dict[str, Any]] = {}

    def call(self, method: str, path: str, body: Any = None, *, form: str = "application/json", **query: str) -> Any:
        try:
            answer = self._client.call_api(
                path,
                method,
                query_params=list(query.items()),
                header_params={"Accept": "application/json", "Content-Type": form},
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _return_http_data_only=True,
                _request_timeout=(5, 60),
            )
        except client.ApiException as error:
            text = error.body if isinstance(error.body, str) else (error.body or b"").decode()
            with contextlib.suppress(ValueError):
                text = json.loads(text).get("message", text)
            raise Refused(error.status, text) from None
        return json.loads(answer.data)

    def _kinds(self, version: str) -> dict[str, Any]:
        if version not in self._found:
            listed = self.call("GET", f"/apis/{version}" if "/" in version else f"/api/{version}")["resources"]
            self._found[version] = {r["kind"]: r for r in listed if "/" not in r["name"]}
        return self._found[version]

    def path(self, manifest: Mapping[str, Any], name: str | None = None) -> str:
        """The URL of an object, or of its collection where ``name`` is empty."""
        version, meta = manifest["apiVersion"], manifest["metadata"]
        found = self._kinds(version)[manifest["kind"]]
        base = f"/apis/{version}" if "/" in version else f"/api/{version}"
        place = f"/namespaces/{meta.get('namespace', 'default')}" if found["namespaced"] else ""
        name = meta["name"] if name is None else name
        return f"{base}{place}/{found['name']}" + (f"/{name}" if name else "")

    def apply(self, manifest: Mapping[str, Any], **query: str) -> Any:
        """Server-side, as strict as the server can be: an unknown field is an error."""
        query = {"fieldManager": "seaway-tests", "fieldValidation": "Strict", **query}
        form = "application/apply-patch+yaml"
        return self.call("PATCH", self.path(manifest), json.loads(json.dumps(manifest)), form=form, **query)

    def create(self, manifest: Mapping[str, Any], *, dry: bool = True) -> Any:
        """As a person or a controller would; ``dry``: everything is checked, nothing is kept."""
        query = {"dryRun": "All"} if dry else {}
        return self.call("POST", self.path(manifest, ""), json.loads(json.dumps(manifest)), **query)

    def delete(self, manifest: Mapping[str, Any]) -> None:
        try:
            self.call("DELETE", self.path(manifest), propagationPolicy="Background")
        except Refused as refused:
            if refused.status != 404:
                raise
        except KeyError:  # its kind is gone
            pass

    def exists(self, manifest: Mapping[str, Any]) -> bool:
        try:
            return bool(self.call("GET", self.path(manifest)))
        except Refused as refused:
            if refused.status == 404:
                return False
            raise

    def may(self, who: str, verb: str, what: str, namespace: str = "", name: str = "") -> bool:
        """``who``: "namespace/account", or a group of people. ``what``: "group/resource" or "group/resource/sub"."""
        group, resource, *sub = what.split("/")
        attributes = {
            "verb": verb,
            "group": group,
            "resource": resource,
            "subresource": "".join(sub),
            "namespace": namespace,
            "name": name,
        }
        if "/" in who:
            home, account = who.split("/")
            groups = ["system:serviceaccounts", f"system:serviceaccounts:{home}", "system:authenticated"]
            subject = {"user": f"system:serviceaccount:{home}:{account}", "groups": groups}
        else:
            subject = {"user": "somebody", "groups": [who, "system:authenticated"]}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"resourceAttributes": attributes, **subject},
        }
        answer = self.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
        return answer["status"]["allowed"]

    @cached_property
    def definitions(self) -> list[dict[str, Any]]:
        """Definitions of the kinds of operators that this server does not have."""
        made = []
        for version, kinds in KINDS.items():
            group, _, number = version.partition("/")
            for kind in kinds:
                name = kind.lower() + "s"
                manifest = _definition(group, number, kind, name)
                there = self.exists(manifest)
                known = [m for m in made if m["metadata"]["name"] == manifest["metadata"]["name"]]
                if known:
                    known[0]["spec"]["versions"].append({**manifest["spec"]["versions"][0], "storage": False})
                elif not there:
                    made.append(manifest)
        return made


def _definition(group: str, number: str, kind: str, plural: str) -> dict[str, Any]:
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": FREE, "status": FREE}}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"},
            "scope": "Cluster" if kind in CLUSTER_WIDE else "Namespaced",
            "versions": [{"name": number, "served": True, "storage": True, "schema": schema}],
        },
    }


def wait(holds: Any, what: str, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.1)


def define(server: Server) -> list[dict[str, Any]]:
    """Definitions that were missing are there now; which those are."""
    missing = server.definitions
    for manifest in missing:
        server.create(manifest, dry=False)

    def established(manifest: Mapping[str, Any]) -> bool:
        conditions = server.call("GET", server.path(manifest)).get("status", {}).get("conditions", [])
        return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)

    for manifest in missing:
        wait(lambda m=manifest: established(m), f"{manifest['metadata']['name']} is served")
    return missing


def remove(server: Server, manifests: Iterable[Mapping[str, Any]]) -> None:
    """All of these are gone, the last made first; with a namespace all that is in it."""
    listed = list(manifests)[::-1]
    spaces = {m["metadata"]["name"] for m in listed if m["kind"] == "Namespace"}
    for manifest in listed:
        if manifest["metadata"].get("namespace") not in spaces:
            server.delete(manifest)
    for manifest in listed:
        if manifest["kind"] == "Namespace":
            wait(lambda m=manifest: not server.exists(m), f"namespace {manifest['metadata']['name']} is gone", 120)
