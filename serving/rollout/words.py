"""A rollout's numbers in words and in records that a report can draw."""

from __future__ import annotations

import math
from typing import Any

from seaway.evidence import rates
from serving.rollout.rules import GUARDRAILS, Rules
from serving.rollout.state import State


def weakest(state: State, rules: Rules) -> str:
    name = min(rules.rails, key=lambda g: rates.log_e(state.evidence[g])[0], default=None)
    if name is None:
        return "no guardrails are configured"
    return f"weakest is {name}, {told(state, name, rates.log_e(state.evidence[name])[0], rules.promote_at)}"


def told(state: State, guardrail: str, value: float, threshold: float) -> str:
    """One guardrail's numbers in words."""
    arms = counts(state, guardrail)
    c, s = arms["canary"], arms["stable"]
    return (
        f"E {e_text(value)} (threshold {e_text(threshold)}), canary {c['k']} of {c['n']}, stable {s['k']} of {s['n']}"
    )


def counts(state: State, guardrail: str) -> dict[str, dict[str, int]]:
    """Requests n and unwanted outcomes k of both arms, by role."""
    known = state.evidence[guardrail]
    canary, stable = ("s", "c") if GUARDRAILS[guardrail][1] else ("c", "s")
    return {
        "canary": {"n": known[f"n_{canary}"], "k": known[f"k_{canary}"]},
        "stable": {"n": known[f"n_{stable}"], "k": known[f"k_{stable}"]},
    }


def e_text(log_value: float) -> str:
    return f"{math.exp(log_value):.3g}" if abs(log_value) < 700 else f"exp({log_value:.0f})"


def rows(state: State) -> list[dict[str, Any]]:
    """The evidence as of now, one record a guardrail."""
    logs = {name: rates.log_e(known) for name, known in state.evidence.items()}
    return [
        {"t": state.now, "guardrail": name, "log_e_promote": p, "log_e_rollback": r, **counts(state, name)}
        for name, (p, r) in logs.items()
    ]
