"""What the clouds share: a component that makes its children the same way, and the kubeconfig of what it made."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pulumi
import yaml
from pulumi import Resource, ResourceOptions

from infra.cluster.settings import FOLDER, Settings
from seaway.errors import SeawayError


@dataclass(frozen=True)
class Made:
    """What a cluster is known by; each value plain or an Output."""

    kubeconfig: Any  # JSON text
    identifier: Any
    more: dict[str, Any] = field(default_factory=dict)  # outputs


class Cloud(pulumi.ComponentResource):
    """A cluster of one cloud. ``fixed`` are the arguments in <name>.yaml that no setting changes."""

    def __init__(self, name: str, sdk: str, settings: Settings, words: dict[str, str], **provider: Any) -> None:
        super().__init__(f"seaway:cluster:{name}", settings.name)
        try:
            self.sdk = importlib.import_module(f"pulumi_{sdk}")
        except ImportError as error:
            raise SeawayError(f"{error}: run `uv sync --inexact --group {sdk}`, then again") from None
        text = (FOLDER / f"{name}.yaml").read_text()
        for word, value in words.items():
            text = text.replace(f"${{{word}}}", value)
        self.settings, self.fixed = settings, yaml.safe_load(text)
        self.provider = self.sdk.Provider(sdk, opts=ResourceOptions(parent=self), **provider)

    def make(
        self,
        kind: str,
        name: str,
        /,
        keep: bool = False,
        after: Iterable[Resource] = (),
        ignore: Any = None,
        **args: Any,
    ) -> Any:
        """A resource such as "eks.Cluster"; ``keep``: it must outlive a mistake, where the settings protect."""
        kept = {"protect": True, "retain_on_delete": True} if keep and self.settings.protect else {}
        opts = {"parent": self, "provider": self.provider, "depends_on": list(after), "ignore_changes": ignore}
        module, _, resource = kind.partition(".")
        return getattr(getattr(self.sdk, module), resource)(name, opts=ResourceOptions(**opts, **kept), **args)


def kubeconfig(name: str, server: str, authority: str, user: dict[str, Any]) -> str:
    """JSON text; the user gets a token from the cloud's own program at each use."""
    command = {"apiVersion": "client.authentication.k8s.io/v1beta1", "interactiveMode": "Never", **user}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": name,
            "clusters": [{"name": name, "cluster": {"server": server, "certificate-authority-data": authority}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "users": [{"name": name, "user": {"exec": command}}],
        }
    )
