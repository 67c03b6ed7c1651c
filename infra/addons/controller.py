"""Seaway's release controller: the manifests of serving.controller_manifests, and what they need around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from infra.access import identity
from infra.base import Part, Site
from seaway.config import load
from serving.controller_manifests import controller

NAMESPACE, CLAIM = "seaway-system", "seaway-controller"
LABELS_KEY = "/var/run/seaway/labels"


class Controller(Part):
    def __init__(self, site: Site, after: Sequence[Part]) -> None:
        super().__init__("Controller", site, after)
        claim = self.apply(_claim(site.controller.storage), data=True)
        for manifest in objects(site):
            self.apply(manifest, after=[claim])
        self.done(image=load(site.env).serving.controller_image)


def objects(site: Site) -> list[dict[str, Any]]:
    """As `python -m serving.controller_manifests` prints them, with the settings' account, keys and storage."""
    key = {"secret": {"secretName": "labels-key", "defaultMode": 0o440}}  # one that all can read is refused
    made = controller(
        load(site.env).serving.controller_image,
        NAMESPACE,
        env=site.env,
        releases=site.tenancy.serving,
        claim=CLAIM,
        mounts={LABELS_KEY: key},
        storage_secret=None if site.objects.uri else "storage",
        trust="model-key",
    )
    for manifest in made:
        if manifest["kind"] == "ServiceAccount" and identity(site.settings):
            manifest["metadata"] = {**manifest["metadata"], "annotations": identity(site.settings)}
        if manifest["kind"] == "Deployment":
            manifest["spec"]["template"]["spec"]["priorityClassName"] = "seaway-serving"
    return made


def _claim(size: str) -> dict[str, Any]:
    """Of the decision logs and the ledger. Bound when its pod is placed: nobody waits for it here."""
    meta = {"name": CLAIM, "namespace": NAMESPACE, "annotations": {"pulumi.com/skipAwait": "true"}}
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec}
