"""Crashes and readiness: what is known of a canary's health before any statistics. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from serving.rollout.rules import Observation, Rules
from serving.rollout.state import State

NEVER_READY_S = 90.0
LOST_READY_S = 10.0


def crashed(state: State, rules: Rules) -> str:
    """Why the canary's crashes end the rollout; '' when they do not."""
    canary, stable = (state.crashes.get(name, 0) for name in (state.canary, state.stable))
    if canary - stable <= rules.crashes:
        return ""
    times = "once" if canary == 1 else f"{canary} times"
    return f"the canary {state.canary} crashed {times} while it was under test, the stable {stable} times"


def stable_crashed(before: State, state: State) -> str:
    """Said in the observation that shows a crash of the stable: nothing is decided by it."""
    if state.crashes.get(state.stable, 0) > before.crashes.get(state.stable, 0):
        return f"the stable predictor {state.stable} crashed"
    return ""


def readiness(state: State, seen: Observation) -> tuple[State, str, str]:
    """The state with the canary's readiness; why it is rolled back for it, and why it cannot be judged now."""
    if not isinstance(seen.ready, Mapping) or state.canary not in seen.ready:
        return state, "", ""
    if seen.ready.get(state.canary) is True:
        return replace(state, seen_ready=True, unready_since=None), "", ""
    since = state.observed if state.unready_since is None else state.unready_since
    state, waited = replace(state, unready_since=since), state.observed - since
    limit = LOST_READY_S if state.seen_ready else NEVER_READY_S
    stable = seen.ready.get(state.stable) is True
    if seen.failed and not state.seen_ready and stable:
        return state, f"the canary {state.canary} cannot be served: {seen.failed}", ""
    if waited >= limit and stable:
        return state, f"the canary {state.canary} has not been ready for {waited:.0f} s", ""
    return state, "", f"the canary {state.canary} is not ready ({waited:.0f} s; rolled back at {limit:.0f} s)"


def all_ready(state: State, seen: Observation) -> bool:
    return isinstance(seen.ready, Mapping) and all(seen.ready.get(n) is True for n in (state.stable, state.canary))
