"""A decision log decided again: the same entries give the same decisions, or something is wrong. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from seaway.errors import SeawayError
from serving.rollout import state as states
from serving.rollout.decisions import START, check_entry
from serving.rollout.policy import decide
from serving.rollout.rules import Decision, Observation, Rules
from serving.rollout.state import State


@dataclass(frozen=True)
class Step:
    """One entry, what ``decide`` makes of it today, and whether action, weights and phase are the same."""

    entry: Mapping[str, Any]
    decision: Decision
    same: bool
    rules: Rules  # by which it was decided


def replay(entries: Sequence[Mapping[str, Any]]) -> list[Step]:
    """The steps of a chain (``DecisionLog.chain``), without its entry 0. SeawayError when that is not a beginning."""
    state, rules = _begin(entries)
    steps = []
    for entry in entries[1:]:
        rules = Rules.from_record(entry["rules"]) if "rules" in entry else rules
        decision = decide(state, Observation.from_record(entry["observation"]), rules)
        found = (decision.action, decision.weights, decision.state.phase)
        steps.append(Step(entry, decision, found == (entry["action"], entry["weights"], entry["phase"]), rules))
        state = replace(decision.state, head=entry["head"], seq=entry["seq"])
    return steps


def check(entries: Sequence[Mapping[str, Any]], final_state: State | None = None) -> dict[str, Any]:
    """Verify a chain: {"entries", "head", "actions", "steps"}; SeawayError names the first entry that does not hold.

    Each entry is unchanged and follows the one before; each decision comes out the same; the last state is
    ``final_state``, where that is given.
    """
    previous = START
    for number, entry in enumerate(entries):
        check_entry(entry)
        if entry["seq"] != number or entry["previous"] != previous:
            raise SeawayError(f"decision log: entry {entry['seq']} does not follow entry {number - 1}")
        previous = entry["head"]
    steps = replay(entries)
    for step in steps:
        if not step.same:
            raise SeawayError(
                f"decision log: entry {step.entry['seq']} says {step.entry['action']} {step.entry['weights']}, "
                f"but its observation leads to {step.decision.action} {step.decision.weights}: {step.decision.reason}"
            )
    last = steps[-1] if steps else None
    reached = replace(last.decision.state, head=last.entry["head"], seq=last.entry["seq"]) if last else None
    if final_state is not None and (reached is None or reached.record() != final_state.record()):
        at = last.entry["seq"] if last else 0
        raise SeawayError(
            f"decision log: entry {at}, the last, does not lead to the state in the object ({final_state.phase})"
        )
    actions: dict[str, int] = {}
    for step in steps:
        actions[step.decision.action] = actions.get(step.decision.action, 0) + 1
    return {"entries": len(entries), "head": previous, "actions": actions, "steps": steps}


def _begin(entries: Sequence[Mapping[str, Any]]) -> tuple[State, Rules]:
    try:
        first = entries[0]
        return states.from_record(first["state"]), Rules.from_record(first["rules"])
    except (IndexError, KeyError, TypeError) as error:
        raise SeawayError(f"decision log: entry 0 does not hold a first state and its rules ({error})") from None
