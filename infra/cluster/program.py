"""The cluster program: settings in, a cluster out."""

from __future__ import annotations

import importlib
from typing import Any

from infra.cluster import estimate
from infra.cluster.settings import Settings
from infra.settings import Settings as Platform
from seaway import cost
from seaway.errors import SeawayError

_MODULES = {"aws": "eks", "gcp": "gke", "existing": "existing"}


def deploy(settings: Settings, platform: Platform, prices: cost.Prices | None = None) -> dict[str, Any]:
    """The stack's outputs; SeawayError before anything is made where the budget does not cover the environment."""
    month = estimate.of(settings, platform, prices or cost.load())
    refused = month.excess(platform.budget.monthly_usd)
    if refused:
        raise SeawayError(refused)
    module = importlib.import_module(f"infra.cluster.{_MODULES[settings.provider]}")
    made = module.create(settings, platform.budget.monthly_usd)
    pools = {name: pool.model_dump() for name, pool in settings.pools.items()}
    known = {"kubeconfig": made.kubeconfig, "identifier": made.identifier}
    return {**known, "node_pools": pools, "estimate": month.as_record(), **made.more}
