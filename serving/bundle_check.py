"""Whether the artifact behind a canary may be promoted: signed, unchanged, and the one that was compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from seaway.bundles import local_copy
from seaway.config import Config
from seaway.errors import SeawayError
from seaway.keys import IN_PODS, public_key
from seaway.signing import opened
from serving import manifests
from serving.rollout import state as states
from serving.rollout.state import State


def checker(config: Config) -> Callable[[Mapping[str, Any], State], str]:
    """``check`` with the key that the configuration trusts: an object cannot bring a key of its own."""

    def checked(obj: Mapping[str, Any], state: State) -> str:
        try:
            return check(obj, state, public_key(config, make=False), partial(local_copy, config))
        except SeawayError as error:
            return str(error)

    return checked


def check(
    obj: Mapping[str, Any],
    state: State,
    trusted: Path | None = None,
    copy: Callable[[str, str], Path] = lambda bundle, digest: Path(bundle),
) -> str:
    """Why the canary's bundle may not be promoted, or "". Never raises: what cannot be read is not trusted.

    Bundle, digest and key are those in the canary's parameters, which its server checked and the spec hash
    covers. ``trusted``: the key of the controller's own configuration; the parameters must name the same, or the
    place that it has in every pod. ``copy`` brings a bundle and digest here, where it lies in object storage.
    """
    try:
        named = {n: manifests.parameters(p) for n, p in manifests.predictors(obj).items() if not p.get("shadow")}
        return _problem(obj, named.get(state.canary), trusted, copy)
    except SeawayError as error:
        return str(error)
    except Exception as error:  # of whatever stands in an object that others can write
        return f"the canary's bundle cannot be checked: {type(error).__name__}: {error}"


def _problem(
    obj: Mapping[str, Any], canary: Mapping[str, str] | None, trusted: Path | None, copy: Callable[[str, str], Path]
) -> str:
    if canary is None:
        return "the object has no canary, so no bundle to check"
    if missing := [name for name in ("bundle", "digest", "public_key") if not canary.get(name)]:
        return f"the canary does not say which bundle to trust: it lacks the parameter {', '.join(missing)}"
    if trusted is not None and Path(canary["public_key"]) not in (trusted, IN_PODS):
        return f"the canary trusts the key {canary['public_key']}, the controller {trusted}"
    if states.candidate(obj).get("digest", canary["digest"]) != canary["digest"]:
        return f"the canary serves the bundle {canary['digest'][:12]}..., not the candidate's"
    folder = copy(canary["bundle"], canary["digest"])
    opened(folder, trusted or Path(canary["public_key"]), canary["digest"])
    return ""
