"""Kubeflow Pipelines: its own kustomize folder below an overlay of ours, infra/kubeflow."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pulumi import ResourceOptions

from infra.access import identity
from infra.base import Part, Site
from infra.settings import FOLDER, Settings
from infra.versions import Table

OVERLAY, RESOLVED = FOLDER / "kubeflow", FOLDER / "kubeflow" / "resolved"


class Kubeflow(Part):
    def __init__(self, site: Site, after: Sequence[Part]) -> None:
        super().__init__("Kubeflow", site, after)
        if site.addons:
            from pulumi_kubernetes.kustomize.v2 import Directory

            opts = ResourceOptions(parent=self, depends_on=self._after)
            folder = resolve(site.settings, site.versions.table)
            # the engine looks at the folder from the program's own
            self.ready.append(Directory("pipelines", directory=os.path.relpath(folder, FOLDER), opts=opts))
        self.done()


def resolve(settings: Settings, table: Table, overlay: Path = OVERLAY, target: Path = RESOLVED) -> Path:
    """The overlay with the settings' values, written to ``target/<env>``, always the same place."""
    folder = target / settings.env
    folder.mkdir(parents=True, exist_ok=True)
    place = settings.sources.pipelines or table.pipelines
    remote = "://" in place
    source = place if remote else os.path.relpath((FOLDER / place).resolve(), folder)  # kustomize wants it so
    words = {
        "source": f"{source}/manifests/kustomize",
        "ref": f"?ref={table.pipelines_version}&timeout=180s" if remote and "?" not in place else "",
        "root": pipeline_root(settings),
        "providers": json.dumps(json.dumps(providers(settings))),
        "identity": json.dumps(identity(settings)),
    }
    for file in overlay.glob("*.yaml"):
        text = file.read_text()
        for word, value in words.items():
            text = text.replace(f"${{{word}}}", value)
        written = folder / f".{file.name}.{os.getpid()}"
        written.write_text(text)
        written.replace(folder / file.name)
    return folder


def pipeline_root(settings: Settings) -> str:
    """Where artifacts of pipelines go: the environment's bucket, or the object store beside the pipelines."""
    return (
        f"{settings.objects.uri.rstrip('/')}/pipelines" if settings.objects.uri else "minio://mlpipeline/v2/artifacts"
    )


def providers(settings: Settings) -> dict[str, Any]:
    """How a step's launcher reaches that place, as ConfigMap kfp-launcher says it: by the pod's own account."""
    scheme, region = (settings.objects.uri or "").partition("://")[0], settings.objects.region
    if not scheme:
        return {}
    place = {"endpoint": settings.objects.endpoint or f"s3.{region}.amazonaws.com", "region": region}
    return {scheme: {"default": {**(place if scheme == "s3" else {}), "credentials": {"fromEnv": True}}}}
