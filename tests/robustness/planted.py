"""Controllers with a fault planted on purpose: each must be caught, or the checkers prove nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from serving import manifests
from serving.rollout import loop as loops
from serving.rollout import policy
from serving.rollout import state as states
from serving.substrate.base import Conflict
from tests.robustness.client import Client
from tests.robustness.play import Controller
from tests.robustness.world import NAME


class _Patched(Controller):
    """The real controller with some of its functions replaced, for as long as the history lasts."""

    changed: tuple[tuple[Any, str, Callable[..., Any]], ...] = ()


@contextmanager
def replaced(make: Any) -> Iterator[None]:
    with ExitStack() as stack:
        for where, name, other in getattr(make, "changed", ()):
            stack.enter_context(patch.object(where, name, other))
        yield


class _Wrapped(Controller):
    """The real controller on a client that writes otherwise."""

    def __init__(self, client: Client, home: Path) -> None:
        super().__init__(client, home)
        write = client.write
        client.write = lambda obj: self.write(write, obj)  # type: ignore[method-assign]

    def write(self, write: Callable[[dict[str, Any]], dict[str, Any]], obj: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError


class TwoWrites(_Wrapped):
    """State and weights in two writes: killed between the two, one is without the other."""

    def write(self, write, obj):
        now = self.client.world.read(NAME)
        first = copy.deepcopy(now)
        first["metadata"]["resourceVersion"] = obj["metadata"]["resourceVersion"]
        first["metadata"]["annotations"] = obj["metadata"]["annotations"]
        stored = write(first)
        if stored["spec"] == obj["spec"]:
            return stored
        return write({**obj, "metadata": stored["metadata"]})


class NoPrecondition(_Wrapped):
    """A write that does not say which version it is for."""

    def write(self, write, obj):
        return write({**obj, "metadata": {k: v for k, v in obj["metadata"].items() if k != "resourceVersion"}})


class Retries(_Wrapped):
    """After a Conflict the same decision again, on the version that is there now."""

    def write(self, write, obj):
        try:
            return write(obj)
        except Conflict:
            current = self.client.world.read(NAME)["metadata"]["resourceVersion"]
            return write({**obj, "metadata": {**obj["metadata"], "resourceVersion": current}})


class KeepsEvidence(_Patched):
    """A new spec does not start new evidence."""

    changed = ((policy, "_changed", lambda state, seen, rules: []),)


def _kept_at_zero(state, phase, reason, keep=False, action=""):
    decision = _real_end(state, phase, reason, keep, action)
    if phase == states.ROLLED_BACK and not keep:
        return replace(decision, weights={state.stable: 100, state.canary: 0})
    return decision


_real_end = policy._end


class RollsBackByWeight(_Patched):
    """A rollback leaves the canary there, at weight 0, which one gateway serves as 50:50."""

    changed = ((policy, "_end", _kept_at_zero),)


def _cap_promotes(state, seen, rules, problems):
    if not policy.late(state, rules):
        return None
    return _real_end(state, states.PROMOTED, "the time cap was reached without harm")


class CapPromotes(_Patched):
    """What many gates do: time is up and nothing was found, so it is promoted."""

    changed = ((policy, "_out_of_time", _cap_promotes),)


class IgnoresFreeze(_Patched):
    changed = ((states, "is_frozen", lambda obj: False),)


def _headed(self, state, seen, decision, rules):
    return replace(decision.state, head="f" * 64, seq=state.seq + 1)


class LogsAfterwards(_Patched):
    """The object is written before the log: a kill between the two leaves a decision that nobody can replay."""

    changed = ((loops.Rollout, "_logged", _headed),)


def _half_weights(obj, decision):
    changed = _real_applied(obj, decision)
    listed = [p for p in changed["spec"]["predictors"] if not p.get("shadow")]
    if len(listed) == 2 and decision.action == "ramp":
        changed = copy.deepcopy(changed)
        next(p for p in changed["spec"]["predictors"] if p["name"] == listed[0]["name"])["traffic"] += 5
    return changed


_real_applied = loops.applied


class SumsTo105(_Patched):
    """Weights that Seldon's webhook may let pass."""

    changed = ((loops, "applied", _half_weights), (manifests, "validate", lambda obj: None))


# each with the checks of which at least one must find it
PLANTED: dict[type[Controller], tuple[str, ...]] = {
    TwoWrites: ("no_write_by_a_stale_actor_succeeds", "weights_are_those_of_the_plan"),
    NoPrecondition: ("no_write_by_a_stale_actor_succeeds",),
    Retries: ("no_write_by_a_stale_actor_succeeds",),
    KeepsEvidence: ("evidence_does_not_outlive_its_spec", "promoted_only_with_proof"),
    RollsBackByWeight: ("after_a_rollback_the_share_never_rises",),
    CapPromotes: ("promoted_only_with_proof", "the_cap_never_promotes"),
    IgnoresFreeze: ("people_win",),
    LogsAfterwards: ("no_write_by_a_stale_actor_succeeds",),
    SumsTo105: ("weights_are_whole_and_sum_to_100",),
}
