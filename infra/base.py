"""How resources are made here: plain manifests become typed resources, charts become pinned releases."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import yaml
from pulumi import CustomTimeouts, Resource, ResourceOptions

from infra.settings import FOLDER, Settings
from infra.versions import Chart, Versions

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # safe both; the first reads ten times as fast
PART_OF = {"app.kubernetes.io/part-of": "seaway"}
Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class Site:
    """What every part of the platform gets: the settings, the versions and the provider of the cluster."""

    settings: Settings
    versions: Versions
    provider: pulumi.ProviderResource

    def __getattr__(self, name: str) -> Any:
        return getattr(self.settings, name)


class Part(pulumi.ComponentResource):
    """One concern of the platform. Children made by its methods have it as parent and the site's provider.

    ``ready`` are the resources that whoever needs this part must come after.
    """

    def __init__(self, kind: str, site: Site, after: Sequence[Part] = (), name: str | None = None) -> None:
        super().__init__(f"seaway:platform:{kind}", name or kind.lower(), {}, ResourceOptions(provider=site.provider))
        self.site, self.ready = site, []
        self._after = [r for part in after for r in part.ready]

    def apply(
        self, manifest: Manifest, *, after: Iterable[Resource] = (), data: bool = False, **options: Any
    ) -> Resource:
        """The resource of a manifest; ``data``: it holds what must outlive a mistake, where the settings protect."""
        keep = {"protect": True, "retain_on_delete": True} if data and self.site.availability.protect else {}
        waits = CustomTimeouts(create="600s", update="600s", delete="300s")
        opts = ResourceOptions(parent=self, depends_on=[*self._after, *after], custom_timeouts=waits, **keep, **options)
        made = _resource(_name_of(manifest), with_labels(manifest), opts)
        self.ready.append(made)
        return made

    def release(self, chart: Chart, values: Mapping[str, Any], *, after: Iterable[Resource] = ()) -> Resource:
        """A third-party chart, pinned, all or nothing, under a fixed name."""
        from pulumi_kubernetes.helm.v3 import Release, RepositoryOptsArgs

        location, repository = self.site.versions.locate(chart)
        made = Release(
            chart.name,
            name=chart.name,
            chart=location,
            version=None if location.startswith(("/", ".")) else chart.version,
            repository_opts=RepositoryOptsArgs(repo=repository) if repository else None,
            namespace=chart.namespace,
            atomic=True,
            cleanup_on_fail=True,
            timeout=chart.timeout,
            values=dict(values),
            opts=ResourceOptions(
                parent=self,
                depends_on=[*self._after, *after],
                custom_timeouts=CustomTimeouts(create=f"{chart.timeout}s", update=f"{chart.timeout}s", delete="300s"),
            ),
        )
        self.ready.append(made)
        return made

    def budget(self, name: str, namespace: str, labels: Mapping[str, str] | None = None) -> None:
        """Of pods that are many, one is left while nodes are drained; where the settings ask for it."""
        if self.site.availability.disruption_budgets:
            selector = {"matchLabels": dict(labels or {"app.kubernetes.io/name": name})}
            meta, spec = {"name": name, "namespace": namespace}, {"minAvailable": 1, "selector": selector}
            kind = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget"}
            self.apply({**kind, "metadata": meta, "spec": spec})

    def done(self, **outputs: Any) -> None:
        self.register_outputs(outputs)


def manifests(name: str, **words: str) -> list[dict[str, Any]]:
    """The documents of infra/manifests/<name>.yaml, ``${word}`` replaced in each."""
    text = (FOLDER / "manifests" / f"{name}.yaml").read_text()
    for word, value in words.items():
        text = text.replace(f"${{{word}}}", value)
    return [d for d in yaml.load_all(text, Loader=_LOADER) if d]


def with_labels(manifest: Manifest) -> dict[str, Any]:
    meta = dict(manifest["metadata"])
    return {**manifest, "metadata": {**meta, "labels": {**PART_OF, **meta.get("labels", {})}}}


def _name_of(manifest: Manifest) -> str:
    meta = manifest["metadata"]
    return "-".join(filter(None, (meta.get("namespace"), meta["name"], manifest["kind"].lower())))


def _resource(name: str, manifest: Manifest, opts: ResourceOptions) -> Resource:
    version, kind = manifest["apiVersion"], manifest["kind"]
    fields = {_snake(k): v for k, v in manifest.items() if k not in ("apiVersion", "kind")}
    group, _, number = version.rpartition("/")
    package = group.split(".")[0] or "core"
    if not group or group.endswith(".k8s.io") or "." not in group:
        try:
            made = getattr(importlib.import_module(f"pulumi_kubernetes.{package}.{number}"), kind)
            return made(name, opts=opts, **fields)
        except (ImportError, AttributeError):
            pass  # a custom resource of a group such as kueue.x-k8s.io
    from pulumi_kubernetes.apiextensions import CustomResource

    return CustomResource(name, api_version=version, kind=kind, opts=opts, **fields)


def _snake(key: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", key).lower()
