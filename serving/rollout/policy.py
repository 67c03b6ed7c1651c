"""What to do next: a pure function of what is known and what is seen. No clock, no I/O, no chance.

    promote    on the ramp's last step, when every guardrail's E_promote >= 1 / alpha_promote
    roll back  when any guardrail's E_rollback >= K / alpha_rollback (K guardrails), when the canary
               crashes, stays unready, or a person aborts
    ramp       after enough requests on a step, when nothing points to harm
    hold       otherwise; the time cap ends a rollout as rolled back or held, never as promoted

With the e-processes of ``seaway.evidence``: P(ever promoted | some guardrail is worse by its margin) <=
alpha_promote, since that guardrail alone would have to reach 1/alpha; P(ever rolled back on evidence |
no guardrail is worse than its tolerance) <= alpha_rollback by the union bound.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from seaway.evidence import rates
from serving.rollout.rules import GUARDRAILS, Decision, Observation, Rules
from serving.rollout.state import HELD, PROMOTED, ROLLED_BACK, RUNNING, State, again
from serving.rollout.words import e_text, told, weakest
from serving.signals.counters import advance, reading

STEP_REQUESTS = 40  # to the canary, before the next ramp step
NEVER_READY_S = 90.0
LOST_READY_S = 10.0
LONGEST_BLOCK_S = 60.0  # of observation; what is longer was no observation


def decide(state: State, seen: Observation, rules: Rules) -> Decision:
    """The next action; total and deterministic. The returned state is to be stored with the weights."""
    if state.phase != RUNNING:
        return Decision("none", state, None, state.reason)
    now = float(seen.now) if _finite(seen.now) and seen.now > state.now else state.now
    if seen.gone:
        phase = ROLLED_BACK if seen.gone == state.canary else HELD
        return _end(replace(state, now=now), phase, f"{seen.gone} was removed from the object by hand", keep=True)
    if seen.abort:
        return _end(replace(state, now=now), ROLLED_BACK, f"a person aborted the release: {seen.abort}")
    changed = [
        what
        for what, old, new in (("spec", state.spec, seen.spec), ("rules", state.rules or rules.digest, rules.digest))
        if old != new
    ]
    if changed:
        text = f"the {' and the '.join(changed)} changed: all evidence starts anew"
        state = replace(again(state, seen.spec, now), rules=rules.digest, reason=text)
        return Decision("start anew", state, None if seen.frozen else _split(state, rules), text)
    passed = min(now - state.now, LONGEST_BLOCK_S)
    state = replace(state, now=now, rules=rules.digest, blocks=state.blocks + 1, observed=state.observed + passed)
    state, problems = _learn(state, seen, rules)
    if seen.frozen:
        return _hold(state, "frozen by a person")
    text = "; ".join(problems) or f"gathering evidence at {_share(state, rules)} %: {weakest(state, rules)}"
    return (
        _health(state, seen)
        or _verdict(state, seen, rules, problems)
        or _ramp(state, seen, rules)
        or _hold(state, text)
    )


def _learn(state: State, seen: Observation, rules: Rules) -> tuple[State, list[str]]:
    """Cursors and evidence brought up to this observation, and what was wrong with it."""
    problems = [seen.problem] if seen.problem else []
    arms = {}
    for role, name in (("stable", state.stable), ("canary", state.canary)):
        found = seen.counters.get(name) if isinstance(seen.counters, Mapping) else None
        arms[role] = advance(state.cursors.get(name, {}), reading(found, rules.slo_ms) if found is not None else {})
        if found is None and not seen.problem:
            problems.append(f"no counters of {name}")
        problems += [f"{name}, {p}" for p in arms[role].problems]
    known = dict(state.evidence)
    for guardrail, rail in rules.rails.items():
        signal, exchanged, _ = GUARDRAILS[guardrail]
        s, c = (arms[role].gained.get(signal, (0, 0)) for role in ("stable", "canary"))
        if exchanged:
            s, c = c, s
        known[guardrail] = rates.update(known.get(guardrail, rates.new_state()), rail, *s, *c)
    # what a signal does not report this time keeps its cursor
    moved = {
        name: {**state.cursors.get(name, {}), **arms[role].cursor}
        for role, name in (("stable", state.stable), ("canary", state.canary))
    }
    gained = {role: max((n for n, _ in arm.gained.values()), default=0) for role, arm in arms.items()}
    both = all(arms[r].gained.get(s, (0,))[0] > 0 for r in arms for s in {GUARDRAILS[g][0] for g in rules.rails})
    restarts = {**{k: int(v) for k, v in _counts(seen.restarts).items()}, **state.restarts}
    return replace(
        state,
        cursors=moved,
        evidence=known,
        restarts=restarts,
        step_requests=state.step_requests + gained["canary"],
        last_data=state.observed if both else state.last_data,
    ), problems


def _health(state: State, seen: Observation) -> Decision | None:
    """Crashes and readiness, before any statistics."""
    crashes = _counts(seen.restarts)
    for name in (state.canary, state.stable):
        if crashes.get(name, 0) > state.restarts.get(name, 0):
            if name == state.canary:
                return _end(state, ROLLED_BACK, f"the canary {name} crashed while it was under test")
            return _end(state, HELD, f"the stable predictor {name} crashed: the comparison is void", keep=True)
    if not isinstance(seen.ready, Mapping) or state.canary not in seen.ready:
        return None
    if seen.ready.get(state.canary) is True:
        if state.unready_since is None and state.seen_ready:
            return None
        return _hold(replace(state, seen_ready=True, unready_since=None), f"the canary {state.canary} is ready")
    since = state.observed if state.unready_since is None else state.unready_since
    state, waited = replace(state, unready_since=since), state.observed - since
    limit = LOST_READY_S if state.seen_ready else NEVER_READY_S
    if seen.failed and not state.seen_ready and seen.ready.get(state.stable) is True:
        return _end(state, ROLLED_BACK, f"the canary {state.canary} cannot be served: {seen.failed}")
    if waited >= limit and seen.ready.get(state.stable) is True:
        return _end(state, ROLLED_BACK, f"the canary {state.canary} has not been ready for {waited:.0f} s")
    return _hold(state, f"the canary {state.canary} is not ready ({waited:.0f} s; rolled back at {limit:.0f} s)")


def _verdict(state: State, seen: Observation, rules: Rules, problems: list[str]) -> Decision | None:
    logs = {name: rates.log_e(state.evidence[name]) for name in rules.rails}
    harmed = [name for name in rules.rails if logs[name][1] >= rules.rollback_at]
    if harmed:
        text = "; ".join(f"{name} is worse: {told(state, name, logs[name][1], rules.rollback_at)}" for name in harmed)
        return _end(state, ROLLED_BACK, text)
    proven = bool(rules.rails) and all(p >= rules.promote_at for p, _ in logs.values())
    ready = isinstance(seen.ready, Mapping) and all(seen.ready.get(n) is True for n in (state.stable, state.canary))
    current = state.last_data is not None and (seen.ended or state.observed - state.last_data <= rules.stale_after)
    late = state.observed >= rules.cap
    if proven and ready and current and not problems and not late and state.step >= len(rules.ramp) - 1:
        text = "; ".join(f"{name}: {told(state, name, logs[name][0], rules.promote_at)}" for name in rules.rails)
        return _end(state, PROMOTED, f"no guardrail is worse by its margin. {text}")
    if not late and not seen.ended:
        return None
    why = f"the time cap of {rules.cap:.0f} s was reached" if late else "the traffic ended"
    if not current:
        return _end(state, ROLLED_BACK, f"{why} and there is no current data of both predictors")
    leaning = [name for name, (p, r) in logs.items() if r > max(p, 0.0)]
    if leaning:
        return _end(state, ROLLED_BACK, f"{why} and the evidence leans towards harm: {', '.join(leaning)}")
    return _end(state, HELD, f"{why} without proof either way: {weakest(state, rules)}", keep=True)


def _ramp(state: State, seen: Observation, rules: Rules) -> Decision | None:
    if state.step >= len(rules.ramp) - 1 or state.step_requests < STEP_REQUESTS or seen.problem:
        return None
    if not isinstance(seen.ready, Mapping) or seen.ready.get(state.canary) is not True:
        return None
    worst = max((rates.log_e(state.evidence[name])[1] for name in rules.rails), default=0.0)
    if worst >= rules.rollback_at / 2:
        return None  # half-way to a rollback is no absence of harm
    state = replace(state, step=state.step + 1, step_requests=0)
    text = f"no sign of harm (largest E_rollback {e_text(worst)}, rolled back at {e_text(rules.rollback_at)}): "
    text += f"the canary gets {_share(state, rules)} %"
    return Decision("ramp", replace(state, reason=text), _split(state, rules), text)


def _end(state: State, phase: str, reason: str, keep: bool = False) -> Decision:
    """A final decision. The loser's predictor is removed, never left at weight 0; ``keep``: weights stay."""
    action = {PROMOTED: "promote", ROLLED_BACK: "roll back", HELD: "give up"}[phase]
    winner = state.canary if phase == PROMOTED else state.stable
    return Decision(action, replace(state, phase=phase, reason=reason), None if keep else {winner: 100}, reason)


def _hold(state: State, reason: str) -> Decision:
    return Decision("hold", replace(state, reason=reason), None, reason)


def _share(state: State, rules: Rules) -> int:
    return rules.ramp[min(state.step, len(rules.ramp) - 1)]


def _split(state: State, rules: Rules) -> dict[str, int]:
    return {state.stable: 100 - _share(state, rules), state.canary: _share(state, rules)}


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _counts(values: Any) -> dict[str, float]:
    return {k: v for k, v in values.items() if _finite(v) and v >= 0} if isinstance(values, Mapping) else {}
