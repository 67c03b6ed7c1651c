"""A rollout's numbers in words and in records that a report can draw."""

from __future__ import annotations

import math
from typing import Any

from seaway.evidence import means, rates, split
from serving.rollout.rules import GUARDRAILS, LOSS, Rules
from serving.rollout.state import PROVISIONAL, State


def logs_of(state: State, rules: Rules) -> dict[str, tuple[float, float]]:
    """Natural logs of (E_promote, E_rollback) by guardrail; (0, 0) for one without any data."""
    logs = {name: rates.log_e(state.evidence[name]) if name in state.evidence else (0.0, 0.0) for name in rules.rails}
    paired = [name for name in rules.guardrails if name not in rules.rails]
    return logs | {name: means.log_e(state.pairs[name]) if name in state.pairs else (0.0, 0.0) for name in paired}


def weakest(state: State, rules: Rules) -> str:
    """The guardrail that is farthest from its proof, of those that this phase waits for."""
    logs = logs_of(state, rules)
    waits = [name for name in logs if name != LOSS or state.phase == PROVISIONAL]
    name = min(waits, key=lambda g: logs[g][0], default=None)
    if name is None:
        return "no guardrails are configured"
    return f"weakest is {name}, {told(state, name, logs[name][0], rules.promote_at)}"


def told(state: State, guardrail: str, value: float, threshold: float) -> str:
    """One guardrail's numbers in words."""
    text = f"E {e_text(value)} (threshold {e_text(threshold)})"
    if guardrail in GUARDRAILS:
        arms = counts(state, guardrail)
        c, s = arms["canary"], arms["stable"]
        return f"{text}, canary {c['k']} of {c['n']}, stable {s['k']} of {s['n']}"
    n, mean = numbers(state, guardrail)
    return f"{text}, mean {mean:.4g} of {n} pairs"


def counts(state: State, guardrail: str) -> dict[str, dict[str, int]]:
    """Requests n and unwanted outcomes k of both arms, by role."""
    known = state.evidence.get(guardrail) or rates.new_state()
    canary, stable = ("s", "c") if GUARDRAILS[guardrail][1] else ("c", "s")
    return {
        "canary": {"n": known[f"n_{canary}"], "k": known[f"k_{canary}"]},
        "stable": {"n": known[f"n_{stable}"], "k": known[f"k_{stable}"]},
    }


def numbers(state: State, guardrail: str) -> tuple[int, float]:
    """Pairs n and the mean of their values, of a guardrail on pairs or losses."""
    known = state.pairs.get(guardrail) or means.new_state()
    return known["n"], known["sum"] / known["n"] if known["n"] else 0.0


def e_text(log_value: float) -> str:
    return f"{math.exp(log_value):.3g}" if abs(log_value) < 700 else f"exp({log_value:.0f})"


def kind(reason: str) -> str:
    """What a reason says before its details: the numbers of a hold change all the time."""
    return reason.split(":")[0].split("(")[0]


def rows(state: State) -> list[dict[str, Any]]:
    """The evidence as of now, one record a guardrail: with both arms' counts, or n and mean of pairs."""
    found = [
        {"t": state.now, "guardrail": name, **_logs(rates.log_e(known)), **counts(state, name)}
        for name, known in state.evidence.items()
    ]
    for name, known in state.pairs.items():
        n, mean = numbers(state, name)
        found.append({"t": state.now, "guardrail": name, **_logs(means.log_e(known)), "n": n, "mean": mean})
    return found


def split_row(state: State) -> dict[str, Any] | None:
    """The check of the traffic's split: requests n, the canary's share (mean) and what was told, and ln E."""
    n = state.split.get("n", 0)
    if not n:
        return None
    shares = {"mean": state.split["k"] / n, "told": state.split["told"] / n}
    return {"t": state.now, "n": n, **shares, "log_e": split.log_e(state.split)}


def _logs(pair: tuple[float, float]) -> dict[str, float]:
    return {"log_e_promote": pair[0], "log_e_rollback": pair[1]}
