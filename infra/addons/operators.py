"""Third-party operators, each from its chart with the values of manifests/charts.yaml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from infra.base import Part, Site, manifests
from infra.settings import Settings
from seaway.config import merged


class Operator(Part):
    """``charts`` one after the other; nothing where the settings say that the cluster has them. ``more``: chart ->
    values that are not in the table."""

    def __init__(
        self,
        kind: str,
        site: Site,
        after: Sequence[Part],
        charts: Sequence[str],
        more: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(kind, site, after)
        self.before()
        table, made = manifests("charts", **words(site.settings))[0], list(self.ready)
        for name in charts if site.addons else ():
            values = table[name]["always"]
            if site.availability.disruption_budgets:
                values = merged(values, table[name].get("redundant", {}))
            made = [self.release(site.versions.chart(name), merged(values, (more or {}).get(name, {})), after=made)]

    def before(self) -> None:
        """What has to be there before the chart."""


def words(settings: Settings) -> dict[str, str]:
    """What the table of values leaves open."""
    host, _, port = (settings.database.host or "postgres.tracking:5432").rpartition(":")
    return {
        "env": settings.env,
        "replicas": str(settings.availability.replicas),
        "training": settings.tenancy.training,
        "gateway": settings.gateway.kind,
        "retention": settings.monitoring.retention,
        "storage": settings.monitoring.storage,
        "database-host": host,
        "database-port": port,
        "database-name": settings.database.name,
    }
