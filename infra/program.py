"""The platform: which parts there are, and which comes after which."""

from __future__ import annotations

from typing import Any

import pulumi

from infra import versions
from infra.access import Access
from infra.admission import Admission
from infra.base import Site
from infra.settings import PROJECT, Settings
from infra.tenancy import Tenancy, namespaces


def deploy(settings: Settings) -> dict[str, Any]:
    """All of one environment; the stack's outputs. Operators come before what is made of their kinds."""
    site = Site(settings, versions.load(settings.sources), _provider(settings))
    tenancy = Tenancy(site)
    access = Access(site, [tenancy])
    Admission(site, [tenancy])
    return {"env": settings.env, "namespaces": [n.name for n in namespaces(settings, site.versions)]}


def _provider(settings: Settings) -> pulumi.ProviderResource:
    """The cluster. Only another ``cluster_identifier`` makes it another one: not a kubeconfig that was edited."""
    import pulumi_kubernetes as kubernetes

    cluster = settings.cluster
    if cluster.stack:
        made = pulumi.StackReference(cluster.stack)
        place = {"kubeconfig": made.require_output("kubeconfig")}
        identifier = made.require_output("identifier")
    else:
        place = {"context": cluster.context, "kubeconfig": cluster.kubeconfig}
        identifier = pulumi.Output.from_input(cluster.identifier)
    return kubernetes.Provider(
        f"{PROJECT}-{settings.env}",
        **place,
        cluster_identifier=identifier,
        enable_server_side_apply=True,
        enable_config_map_mutable=True,  # else a new value is a new object, and what mounts the old one loses it
        enable_secret_mutable=True,
    )
