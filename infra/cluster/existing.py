"""A cluster that exists: one context of a kubeconfig, cut out so that it stands alone. Nothing is made."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import yaml

from infra.cluster.cloud import Made
from infra.cluster.settings import Settings
from seaway.errors import SeawayError


def create(settings: Settings, monthly_usd: float) -> Made:
    """SeawayError where the file or its context is not there. There is no bill to be told of."""
    named = settings.kubeconfig or os.environ.get("KUBECONFIG", "").split(os.pathsep)[0] or "~/.kube/config"
    config = cut_out(Path(named).expanduser(), str(settings.context))
    cluster = config["clusters"][0]["cluster"]
    known = cluster["server"] + cluster.get("certificate-authority-data", "")
    return Made(json.dumps(config), f"{settings.name}-{hashlib.sha256(known.encode()).hexdigest()[:16]}")


def cut_out(file: Path, context: str) -> dict[str, Any]:
    """The kubeconfig of one context, with the certificates and keys inside that it names by path."""
    try:
        whole = yaml.safe_load(file.read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise SeawayError(f"kubeconfig {file} cannot be read ({error}): give its path as `kubeconfig`") from None
    chosen = _entry(whole, "contexts", context, file)
    cluster = _entry(whole, "clusters", chosen["context"]["cluster"], file)
    user = _entry(whole, "users", chosen["context"]["user"], file)
    for part in (cluster["cluster"], user["user"]):
        for key in ("certificate-authority", "client-certificate", "client-key"):
            if key in part:
                part[f"{key}-data"] = base64.b64encode((file.parent / part.pop(key)).read_bytes()).decode()
    head = {"apiVersion": "v1", "kind": "Config", "current-context": context}
    return {**head, "clusters": [cluster], "contexts": [chosen], "users": [user]}


def _entry(whole: dict[str, Any], part: str, name: str, file: Path) -> dict[str, Any]:
    listed = {entry["name"]: entry for entry in whole.get(part) or []}
    if name not in listed:
        known = ", ".join(listed) or "none"
        raise SeawayError(f"kubeconfig {file} has no {part[:-1]} {name!r}; it has: {known}. Correct `context`")
    return listed[name]
