"""The platform: which parts there are, and which comes after which."""

from __future__ import annotations

from typing import Any

import pulumi

from infra import versions
from infra.access import Access
from infra.addons.controller import Controller
from infra.addons.credentials import Credentials, secrets
from infra.addons.info import Info, addresses, digest
from infra.addons.kubeflow import Kubeflow
from infra.addons.mesh import Mesh
from infra.addons.monitoring import Monitoring
from infra.addons.online import Online
from infra.addons.operators import Operator
from infra.addons.scheduling import Scheduling
from infra.addons.tracking import Tracking
from infra.admission import Admission
from infra.base import Site
from infra.cluster import estimate
from infra.settings import PROJECT, Settings
from infra.tenancy import Tenancy, namespaces


def deploy(settings: Settings) -> dict[str, Any]:
    """All of one environment; the stack's outputs. Operators come before what is made of their kinds."""
    secrets(settings)  # one that is missing is told before anything is made
    site = Site(settings, versions.load(settings.sources), _provider(settings))
    tenancy = Tenancy(site)
    access = Access(site, [tenancy])
    admission = Admission(site, [tenancy])
    credentials = Credentials(site, [tenancy])
    certificates = Operator("Certificates", site, [tenancy], ["cert-manager"])
    mesh = Mesh(site, [tenancy])
    monitoring = Monitoring(site, [credentials])
    models = Operator("Models", site, [certificates, mesh], ["seldon-core-operator"])
    rays = Operator("Ray", site, [tenancy], ["kuberay-operator"])
    queues = [Scheduling(site, [monitoring])] if settings.gpu else []
    Kubeflow(site, [credentials, admission])
    Online(site, [credentials])
    Tracking(site, [credentials])
    if settings.monitoring.opencost:
        Operator("Costs", site, [monitoring], ["opencost"])
    controller = Controller(site, [access, credentials, models])
    Info(site, [controller, rays, *queues])
    return outputs(settings, [n.name for n in namespaces(settings, site.versions)])


def outputs(settings: Settings, names: list[str]) -> dict[str, Any]:
    """What others need to know; no secret among it. ``estimate``: what the month costs, with its cluster."""
    month = estimate.of_platform(settings)
    return {
        "env": settings.env,
        "digest": digest(settings),
        "namespaces": names,
        "addresses": addresses(settings),
        "estimate": month.as_record(),
    }


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
        enable_patch_force=True,  # else an update cannot mend what a hand has changed: the hand owns the field
        enable_config_map_mutable=True,  # else a new value is a new object, and what mounts the old one loses it
        enable_secret_mutable=True,
    )
