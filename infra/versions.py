"""The one table of versions, versions.yaml, and where its charts and images come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from infra.settings import FOLDER, Sources
from seaway.config import Section
from seaway.errors import SeawayError


class Chart(Section):
    name: str  # also of the release: the chart's objects are named after it
    chart: str
    repository: str  # "https://…", or "oci://…" that holds the chart
    version: str
    namespace: str
    timeout: int = 600  # seconds


class Image(Section):
    repository: str
    tag: str
    digest: str | None = None  # "sha256:…"


class Table(Section):
    charts: dict[str, Chart]
    images: dict[str, Image]
    pipelines: str  # URL of Kubeflow Pipelines' kustomize folder
    pipelines_version: str


@dataclass(frozen=True)
class Versions:
    table: Table
    sources: Sources

    def chart(self, name: str) -> Chart:
        return self.table.charts[name]

    def locate(self, chart: Chart) -> tuple[str, str | None]:
        """What to give Helm: the chart's place or name, and its repository where that is one."""
        own = self.sources.chart.get(chart.name)
        if own:
            return own, None
        place = self.sources.charts or chart.repository
        if place.startswith("oci://"):
            return f"{place.rstrip('/')}/{chart.chart}", None
        if place.startswith(("https://", "http://")):
            return chart.chart, place
        return str((FOLDER / place / chart.chart).resolve()), None

    def image(self, name: str) -> str:
        """The reference of an image of the table; SeawayError for one without a digest where digests are asked for."""
        image = self.table.images[name]
        if self.sources.digests and not image.digest:
            raise SeawayError(
                f"sources.digests is set, and infra/versions.yaml gives no digest for {name} "
                f"({image.repository}:{image.tag}): add `digest: sha256:…`"
            )
        prefix = f"{self.sources.registry.rstrip('/')}/" if self.sources.registry else ""
        return f"{prefix}{image.repository}:{image.tag}" + (f"@{image.digest}" if image.digest else "")


def load(sources: Sources, file: Path = FOLDER / "versions.yaml") -> Versions:
    listed: Mapping = yaml.safe_load(file.read_text())
    charts = {name: {"name": name, **chart} for name, chart in listed["charts"].items()}
    return Versions(Table.model_validate({**listed, "charts": charts}), sources)
