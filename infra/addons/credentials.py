"""Passwords and keys of the platform: from Pulumi's secrets into the namespaces that need them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi

from infra.base import Part, Site, manifests
from infra.settings import PROJECT, Settings
from seaway.errors import SeawayError

_NAME = re.compile(r"\{(\w+)\}")


class Credentials(Part):
    def __init__(self, site: Site, after: Sequence[Part]) -> None:
        super().__init__("Credentials", site, after)
        values = secrets(site.settings)
        for row in _table(site.settings)["objects"]:
            data = {key: _filled(text, values) for key, text in row["data"].items()}
            for namespace in _namespaces(row["in"], site.settings):
                self.apply(_object(row, namespace, data))
        self.done()


def secrets(settings: Settings) -> dict[str, pulumi.Output[str]]:
    """The Pulumi secrets that this stack needs; SeawayError that tells how to make those that are missing."""
    config, table = pulumi.Config(PROJECT), _table(settings)
    names = dict.fromkeys(n for row in table["objects"] for text in row["data"].values() for n in _NAME.findall(text))
    missing = [name for name in names if config.get(name) is None]
    if missing:
        how = "\n  ".join(table["make"][name] for name in missing)
        raise SeawayError(f"this stack lacks the Pulumi secrets {', '.join(missing)}. Make them:\n  {how}")
    return {name: config.require_secret(name) for name in names}


def _table(settings: Settings) -> dict[str, Any]:
    """manifests/credentials.yaml, with the objects that these settings ask for."""
    table = manifests("credentials", **{"database-user": settings.database.user})[0]
    facts = {"addons": settings.addons, "objects-inside": settings.objects.uri is None}
    return {**table, "objects": [row for row in table["objects"] if facts.get(row.get("when"), True)]}


def _filled(text: str, values: Mapping[str, pulumi.Output[str]]) -> Any:
    names = _NAME.findall(text)
    if not names:
        return text
    return pulumi.Output.all(**{n: values[n] for n in names}).apply(
        lambda found: _NAME.sub(lambda match: found[match[1]], text)
    )


def _namespaces(places: Sequence[str], settings: Settings) -> list[str]:
    named = {"serving": settings.tenancy.serving, "training": (settings.tenancy.training,)}
    return [n for place in places for n in named.get(place, (place,))]


def _object(row: Mapping[str, Any], namespace: str, data: Mapping[str, Any]) -> dict[str, Any]:
    meta = {"name": row["name"], "namespace": namespace}
    if row.get("kind") == "ConfigMap":
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": dict(data)}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "Opaque", "stringData": dict(data)}
