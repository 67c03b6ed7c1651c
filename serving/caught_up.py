"""The registry's aliases after a release that ended on a cluster while nobody was watching."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from seaway.config import Config
from seaway.errors import NotFound
from serving.rollout import state as states
from serving.rollout.state import PROMOTED, ROLLED_BACK
from serving.substrate.base import Substrate

_DECISIONS = {PROMOTED: "promoted", ROLLED_BACK: "rejected"}


@dataclass(frozen=True)
class Verdict:
    """What the registry does not know of yet."""

    version: str
    phase: str
    release: str
    bundle: str  # digest of the release bundle, or ""


def catch_up(
    config: Config, *, substrate: Substrate | None = None, on_event: Callable[[str], None] = print
) -> str | None:
    """Let champion and candidate follow the verdict in the released object; the phase that was caught up with.

    The controller decides without the registry, which it has no business to write. Whoever next trains, releases
    or promotes calls this first, so that the champion is the one that serves. On one machine there is nothing to do.
    """
    from seaway.registry import Registry

    verdict = behind(config, substrate=substrate)
    if verdict is None:
        return None
    if verdict.phase == PROMOTED:
        Registry.of(config).promote(verdict.version, release=verdict.bundle)
    else:
        Registry.of(config).reject(verdict.version)
    on_event(f"{verdict.release} was {verdict.phase} meanwhile: the registry follows")
    return verdict.phase


def behind(config: Config, *, substrate: Substrate | None = None) -> Verdict | None:
    """The verdict that ``catch_up`` would write into the registry; None: nothing. It only looks."""
    from seaway.registry import CHAMPION, Registry
    from serving.substrate.choose import substrate_of

    if config.serving.substrate == "local" and substrate is None:
        return None
    try:
        obj = (substrate or substrate_of(config)).read(config.workload.name)
    except NotFound:
        return None
    state, what = states.load(obj), states.candidate(obj)
    if state is None or state.phase not in _DECISIONS or what.get("faults"):
        return None
    registry = Registry.of(config)
    version = registry.find(str(what.get("version", "")))
    if version is None:
        return None
    # the decision stays with a version that another one followed and that was then promoted again
    champion = registry.find(CHAMPION)
    leads = champion is not None and champion.version == version.version
    if (leads or state.phase == ROLLED_BACK) and version.tags.get("decision") == _DECISIONS[state.phase]:
        return None
    return Verdict(version.version, state.phase, state.release, str(what.get("bundle") or ""))
