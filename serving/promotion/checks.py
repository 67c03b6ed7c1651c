"""What an environment lacks for a release bundle, decided from plain facts. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_PINNED = re.compile(r"\S+@sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Target:
    """What was found of the environment that a bundle is to move to. A text is why something is not there, or ""."""

    env: str
    workload: str
    features: str  # hash of the feature definitions that its configuration names
    guardrails: frozenset[str]
    distrusts: str  # why the bundle's signature is not accepted there
    pods: bool  # it runs containers, so their images must be fixed and storage be shared
    storage: bool  # object storage is configured
    store: str = ""  # why the online store cannot be used
    platform: tuple[str, ...] = ()  # what of the cluster is not there or not ready


def lacking(record: Mapping[str, Any], guardrails: frozenset[str], target: Target) -> list[str]:
    """Why the bundle ``record`` cannot be released on ``target``, each with what to do; nothing lacks: [].

    ``guardrails``: those of the environment that it comes from. The target must judge each of them too, or a
    canary could pass there on less than it had to prove before.
    """
    env, found = target.env, []
    if record["workload"] != target.workload:
        found.append(f"{env} serves {target.workload!r}, the bundle is of {record['workload']!r}: give its --workload")
    if target.distrusts:
        found.append(f"{env} does not trust it: {target.distrusts}; set trust.public_key of config/{env}.yaml")
    if record["features"] != target.features:
        found.append(
            f"the features of {env} are {_short(target.features)}, the model's are {_short(record['features'])}: "
            f"check out revision {_short(record['model']['lineage'].get('git_revision')) or 'of the run'} "
            "or train with today's features"
        )
    if not record["pipeline"]:
        found.append("it was made without its compiled pipeline: run `seaway run` again")
    if missing := sorted(guardrails - target.guardrails):
        found.append(
            f"{env} does not judge {', '.join(missing)}: add release.guardrails.{missing[0]} to config/{env}.yaml"
        )
    if target.pods and not target.storage:
        found.append(f"{env} has no object storage for its pods to read the model from: set storage.uri")
    if target.pods:
        found += [
            f"its image {name} is {image!r}, which can change: push it, write the digest "
            f"(NAME@sha256:...) into the configuration that it is trained with, and run again"
            for name, image in sorted(record["images"].items())
            if not _PINNED.fullmatch(image)
        ]
    if target.store:
        found.append(f"the online store of {env} cannot be used: {target.store}")
    return found + [f"the platform of {env}: {text}" for text in target.platform]


def _short(text: Any) -> str:
    return str(text or "")[:12]
