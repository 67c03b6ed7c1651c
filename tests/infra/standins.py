"""Stand-ins for what is fetched from elsewhere: charts of our own under the names of versions.yaml, a kustomize
folder in the form of Kubeflow Pipelines', the custom kinds that the platform uses.

A chart keeps the values that it was given in a ConfigMap, has one Deployment that must become ready, and brings the
kinds that the real one brings and we use. Pods keep to the restricted Pod Security level.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from infra.versions import Chart

# chart -> group, versions (the last is stored), kind, plural, namespaced
KINDS: dict[str, list[tuple[str, tuple[str, ...], str, str, bool]]] = {
    "istio-base": [("networking.istio.io", ("v1beta1", "v1"), "Gateway", "gateways", True)],
    "kube-prometheus-stack": [
        ("monitoring.coreos.com", ("v1",), "PodMonitor", "podmonitors", True),
        ("monitoring.coreos.com", ("v1",), "ServiceMonitor", "servicemonitors", True),
        ("monitoring.coreos.com", ("v1",), "PrometheusRule", "prometheusrules", True),
    ],
    "kueue": [
        ("kueue.x-k8s.io", ("v1beta1", "v1beta2"), "ResourceFlavor", "resourceflavors", False),
        ("kueue.x-k8s.io", ("v1beta1", "v1beta2"), "ClusterQueue", "clusterqueues", False),
        ("kueue.x-k8s.io", ("v1beta1", "v1beta2"), "LocalQueue", "localqueues", True),
    ],
}
# Helm installs what is in a chart's folder crds/ and never deletes it; the real one has them there
KEPT = {"kube-prometheus-stack"}
STRICT = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "runAsUser": 8888,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def definition(group: str, versions: Iterable[str], kind: str, plural: str, namespaced: bool) -> dict[str, Any]:
    """A CustomResourceDefinition that lets every field pass."""
    *served, stored = versions
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}", "annotations": _approved(group)},
        "spec": {
            "group": group,
            "scope": "Namespaced" if namespaced else "Cluster",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"},
            "versions": [
                {"name": v, "served": True, "storage": v == stored, "schema": schema} for v in (*served, stored)
            ],
        },
    }


def definitions() -> list[dict[str, Any]]:
    return [definition(*row) for rows in KINDS.values() for row in rows]


def write_charts(folder: Path, charts: Iterable[Chart]) -> Path:
    """One folder a chart, as a mirror of charts has them."""
    for chart in charts:
        place = folder / chart.chart
        crds = [definition(*row) for row in KINDS.get(chart.name, ())]
        about = {"apiVersion": "v2", "name": chart.chart, "version": chart.version.removeprefix("v")}
        _write(place / "Chart.yaml", about)
        _write(place / "values.yaml", {})
        _write(place / "templates" / "workload.yaml", _deployment("{{ .Release.Name }}"))
        (place / "templates" / "values.yaml").write_text(_VALUES)
        if crds:
            _write(place / ("crds" if chart.name in KEPT else "templates") / "kinds.yaml", *crds)
    return folder


_VALUES = """apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Release.Name }}-values"}
data: {values: {{ .Values | toJson | quote }}}
"""


def write_pipelines(folder: Path) -> Path:
    """What our overlay of Kubeflow Pipelines builds upon, and changes: its public passwords, its caching."""
    base, env = (
        folder / "manifests/kustomize/cluster-scoped-resources",
        folder / "manifests/kustomize/env/platform-agnostic",
    )
    here = {"namespace": "kubeflow"}
    mysql = _deployment("mysql", **here)
    mysql["spec"]["template"]["spec"]["containers"][0]["env"] = [
        {"name": "MYSQL_ALLOW_EMPTY_PASSWORD", "value": "true"}
    ]
    caching = [_deployment("cache-server", **here), _deployment("cache-deployer-deployment", **here)]
    public = {"accesskey": "minio", "secretkey": "minio123"}
    objects = [
        _deployment("ml-pipeline", **here),
        mysql,
        *caching,
        _object("v1", "ServiceAccount", "pipeline-runner", **here),
        _object("v1", "ServiceAccount", "kubeflow-pipelines-cache", **here),
        _object("v1", "Secret", "mlpipeline-minio-artifact", **here) | {"stringData": public},
        _object("v1", "Secret", "mysql-secret", **here) | {"stringData": {"username": "root", "password": ""}},
        _object("v1", "ConfigMap", "kfp-launcher", **here) | {"data": {"defaultPipelineRoot": ""}},
        _object("v1", "ConfigMap", "pipeline-install-config", **here) | {"data": {"appName": "pipeline"}},
    ]
    kind = definition("app.k8s.io", ("v1beta1",), "Application", "applications", True)
    for place, listed in ((base, [kind, _object("v1", "Namespace", "kubeflow")]), (env, objects)):
        _write(place / "objects.yaml", *listed)
        _write(place / "kustomization.yaml", {"resources": ["objects.yaml"]})
    return folder


def _object(version: str, kind: str, name: str, **meta: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, **meta}}


def _deployment(name: str, **meta: Any) -> dict[str, Any]:
    labels = {"app": name}
    container = {
        "name": "main",
        "image": "registry.example.com/stand-in:1",
        "securityContext": STRICT,
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "16Mi"}},
    }
    return _object("apps/v1", "Deployment", name, **meta) | {
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        }
    }


def _approved(group: str) -> dict[str, str]:
    return {"api-approved.kubernetes.io": "unapproved, of tests"} if group.endswith(".k8s.io") else {}


def _write(file: Path, *documents: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump_all(documents, width=1000))
