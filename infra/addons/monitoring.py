"""Prometheus and Grafana, what they scrape of ours, when they call, and what they show."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from infra.addons.operators import Operator
from infra.base import Part, Site, manifests
from infra.settings import FOLDER
from seaway.config import load

NAMESPACE, DASHBOARDS = "monitoring", FOLDER.parent / "dashboards"


class Monitoring(Operator):
    def __init__(self, site: Site, after: Sequence[Part]) -> None:
        super().__init__("Monitoring", site, after, ["kube-prometheus-stack"])
        chart = list(self.ready)
        for manifest in [*monitors(site), *rules(site), *dashboards()]:
            self.apply(manifest, after=chart)
        self.done()


def monitors(site: Site) -> Iterator[dict[str, Any]]:
    """One PodMonitor a row of manifests/monitors.yaml: it sets the labels `pod` and `namespace` on every series."""
    every = load(site.env).serving.scrape
    groups = {"serving": list(site.tenancy.serving), "training": [site.tenancy.training]}
    for row in manifests("monitors")[0]["pods"]:
        yield {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PodMonitor",
            "metadata": {"name": row["name"], "namespace": NAMESPACE},
            "spec": {
                "namespaceSelector": {"matchNames": groups.get(row["in"], [row["in"]])},
                "selector": row["pods"],
                "podMetricsEndpoints": [{"port": row["port"], "path": row.get("path", "/metrics"), "interval": every}],
            },
        }


def rules(site: Site) -> list[dict[str, Any]]:
    serving = "|".join(site.tenancy.serving)
    workloads = "|".join(dict.fromkeys(("kubeflow", site.tenancy.training, *site.tenancy.serving)))
    return manifests("rules", serving=serving, workloads=workloads, controller="seaway-system")


def dashboards(folder: Path = DASHBOARDS) -> Iterator[dict[str, Any]]:
    """A ConfigMap each, by whose label Grafana finds it."""
    for file in sorted(folder.glob("*.json")):
        meta = {"name": f"dashboard-{file.stem}", "namespace": NAMESPACE, "labels": {"grafana_dashboard": "1"}}
        data = {file.name: json.dumps(json.loads(file.read_text()), sort_keys=True)}
        yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}
