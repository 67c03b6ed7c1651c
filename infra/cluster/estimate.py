"""What an environment costs: its cluster's pools and fees, and the volumes and entry of the platform on it."""

from __future__ import annotations

from infra.checks import amount
from infra.cluster import settings as clusters
from infra.settings import Settings as Platform
from seaway import cost

# Kubeflow Pipelines' own claims: its database, and its object store where no other is named
_PIPELINES_GB, _OBJECTS_GB = 20, 20


def of_platform(platform: Platform, prices: cost.Prices | None = None) -> cost.Estimate:
    """The month of a platform and of its cluster: the stack that it names, or else that of the same name."""
    stack = (platform.cluster.stack or platform.env).rpartition("/")[2]
    return of(clusters.of_stack(stack), platform, prices or cost.load())


def of(cluster: clusters.Settings | None, platform: Platform, prices: cost.Prices) -> cost.Estimate:
    """``cluster`` None, or existing without prices: an estimate of nothing. SeawayError for what has no price."""
    cloud = cluster and (cluster.priced_as if cluster.provider == "existing" else cluster.provider)
    if not cluster or not cloud:
        return cost.Estimate("existing", "", prices.date.isoformat())
    pools = [
        cost.Pool(name, p.machine, p.min, p.max, p.hours, p.spot, p.disk_gb, p.accelerator, p.gpu)
        for name, p in cluster.pools.items()
    ]
    network, zones = cluster.network, len(cluster.network.zones)
    fixed: dict[str, float] = {} if cluster.provider == "existing" else {"control plane": 1}
    gateways = 0
    if cluster.provider != "existing" and not network.vpc:
        gateways = zones if cluster.provider == "aws" and network.nat == "zone" else 1
        fixed["NAT gateway"] = gateways
    balanced = platform.gateway.kind == "LoadBalancer"
    fixed |= {"load balancer": 1} if balanced else {}
    addresses = gateways + (zones if cloud == "aws" else 1) * balanced
    fixed |= {"public address": addresses} if addresses else {}
    return cost.estimate(
        pools, prices, cloud=cloud, region=str(cluster.region), fixed=fixed, disks={"claims": _claims(platform)}
    )


def excess(platform: Platform, prices: cost.Prices | None = None) -> str:
    """Why the platform's budget does not cover its environment; "" where it does."""
    return of_platform(platform, prices).excess(platform.budget.monthly_usd)


def _claims(platform: Platform) -> float:
    """GB of all volumes that the platform claims."""
    asked = [platform.controller.storage]
    if platform.addons:
        asked += [platform.monitoring.storage]
    asked += [] if platform.redis.host else [platform.redis.storage]
    asked += [] if platform.database.host else [platform.database.storage]
    own = (_PIPELINES_GB + (0 if platform.objects.uri else _OBJECTS_GB)) if platform.addons else 0
    return own + sum(amount(text) for text in asked) / 2**30
