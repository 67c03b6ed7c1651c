"""What the platform says about itself to those who run on it: ConfigMap seaway-platform in their namespaces."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pulumi

from infra.addons.online import connection
from infra.addons.tracking import OWN_BUCKET
from infra.base import Part, Site
from infra.cluster import estimate
from infra.settings import FOLDER, PROJECT, Settings

NAME = "seaway-platform"
_PARTS = ("*.py", "addons/*.py", "manifests/*.yaml", "kubeflow/*.yaml", "versions.yaml")


class Info(Part):
    """The number of the update is added when it is over, by ``python -m infra.record``."""

    def __init__(self, site: Site, after: Sequence[Part]) -> None:
        super().__init__("Info", site, after)
        tenancy = site.tenancy
        data = {
            "stack": f"{pulumi.get_organization() or 'organization'}/{PROJECT}/{pulumi.get_stack()}",
            "digest": digest(site.settings),
            "settings": site.settings.model_dump_json(),
            "revision": revision(),
            "estimate": f"{estimate.of_platform(site.settings).monthly:.2f}",  # USD a month, as expected
        }
        for namespace in ("kubeflow", tenancy.training, *tenancy.serving, "seaway-system"):
            meta = {"name": NAME, "namespace": namespace}
            self.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data})
        self.done()


def addresses(settings: Settings) -> dict[str, str]:
    """Where the platform's services answer within the cluster; config/<env>.yaml says the same (a test compares)."""
    return {
        "pipelines": "http://ml-pipeline.kubeflow:8888",
        "tracking": "http://mlflow.tracking:5000",
        "online store": connection(settings),
        "prometheus": "http://prometheus-operated.monitoring:9090",
        "objects": settings.objects.uri or f"s3://{OWN_BUCKET}",
    }


def digest(settings: Settings, folder: Path = FOLDER) -> str:
    """SHA-256 of the settings, the versions and the program with its manifests."""
    files = sorted({f for pattern in _PARTS for f in folder.glob(pattern)})
    parts = [(f.relative_to(folder).as_posix(), hashlib.sha256(f.read_bytes()).hexdigest()) for f in files]
    return hashlib.sha256(json.dumps([settings.model_dump(mode="json"), parts]).encode()).hexdigest()


def revision(folder: Path = FOLDER) -> str:
    """The git revision of this checkout; "" where it is none."""
    asked = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
