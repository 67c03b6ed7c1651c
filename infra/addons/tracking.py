"""The tracking server and registry, MLflow: its database, and where its artifacts go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from infra.access import identity
from infra.addons.operators import Operator
from infra.base import Part, Site, manifests

OWN_BUCKET = "mlpipeline"  # of the object store that Kubeflow Pipelines brings


class Tracking(Operator):
    def __init__(self, site: Site, after: Sequence[Part]) -> None:
        self._site = site
        super().__init__("Tracking", site, after, ["mlflow"], {"mlflow": self._places()})
        if site.addons:
            self.budget("mlflow", "tracking", {"app.kubernetes.io/name": "mlflow"})
        self.done()

    def before(self) -> None:
        database = self._site.database
        if not database.host:
            words = {"image": self._site.versions.image("postgres"), "storage": database.storage}
            for manifest in manifests("postgres", database=database.name, user=database.user, **words):
                self.apply(manifest, data=manifest["kind"] == "StatefulSet")

    def _places(self) -> dict[str, Any]:
        objects = self._site.objects
        scheme, _, place = (objects.uri or f"s3://{OWN_BUCKET}").partition("://")
        bucket, _, path = place.partition("/")
        kind = {"s3": "s3", "gs": "gcs"}[scheme]
        root: dict[str, Any] = {"enabled": True, "bucket": bucket, "path": f"{path}/mlflow".lstrip("/")}
        if not objects.uri:
            root["existingSecret"] = {"name": "storage"}
        endpoint = objects.endpoint or (None if objects.uri else "http://seaweedfs.kubeflow:9000")
        variables = {"MLFLOW_S3_ENDPOINT_URL": endpoint, "AWS_DEFAULT_REGION": objects.region}
        return {
            "artifactRoot": {kind: root},
            "extraEnvVars": {k: v for k, v in variables.items() if v},
            "serviceAccount": {"annotations": identity(self._site.settings)},
        }
