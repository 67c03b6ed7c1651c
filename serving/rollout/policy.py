"""What to do next: a pure function of what is known and what is seen. No clock, no I/O, no chance.

    promote    on the ramp's last step (or when a person asks), when every guardrail's E_promote >= 1 /
               alpha_promote; with delayed labels provisionally: the old champion keeps a holdback
    confirm    a provisional promotion, when also the labels' E_promote >= 1 / alpha_promote
    roll back  when any guardrail's E_rollback >= K / alpha_rollback (K guardrails), when the canary crashes
               more often than the stable, stays unready, is not confirmed in time, or a person aborts
    ramp       after enough requests on a step, when nothing points to harm
    freeze     nothing at all, while a person says so (an abort still rolls back)
    hold       otherwise; the time cap ends a rollout as rolled back or held, never as promoted

With the e-processes of ``seaway.evidence``: P(ever promoted | some guardrail is worse by its margin) <=
alpha_promote, since that guardrail alone would have to reach 1/alpha; P(ever rolled back on evidence |
no guardrail is worse than its tolerance) <= alpha_rollback by the union bound.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from seaway.evidence import split
from serving.rollout import health
from serving.rollout.learn import finite, learn
from serving.rollout.rules import LOSS, Decision, Observation, Rules
from serving.rollout.state import (
    HELD,
    PROMOTED,
    PROVISIONAL,
    REASON,
    RECENT,
    ROLLED_BACK,
    RUNNING,
    UNDER_WAY,
    State,
    again,
)
from serving.rollout.words import e_text, logs_of, told, weakest

STEP_REQUESTS = 40  # to the canary, before the next ramp step
LONGEST_BLOCK_S = 60.0  # of observation; what is longer was no observation
CLOCK_SET_BACK_S = 3600.0  # a clock that is behind by more has been set: timers follow it
SPLIT_AT = math.log(1 / 0.001)  # the threshold on ln E of the check of the split
LONGEST_REASON = 1500  # characters


def decide(state: State, seen: Observation, rules: Rules) -> Decision:
    """The next action; total and deterministic. The returned state is to be stored with the weights."""
    if state.phase not in UNDER_WAY:
        return Decision("none", state, None, state.reason)
    return _noted(_decided(state, seen, rules))


def _decided(before: State, seen: Observation, rules: Rules) -> Decision:
    now = before.now
    if finite(seen.now) and (seen.now > now or seen.now < now - CLOCK_SET_BACK_S):
        now = float(seen.now)
    state = replace(before, now=now, uid=before.uid or _text(seen.uid))
    if seen.gone:
        phase = ROLLED_BACK if seen.gone == state.canary else HELD
        return _end(state, phase, f"{seen.gone} was removed from the object by hand", keep=True)
    if seen.abort:
        return _end(state, ROLLED_BACK, f"a person aborted the release: {seen.abort}")
    if changed := _changed(state, seen, rules):
        return _anew(state, seen, rules, changed)
    passed = min(max(now - before.now, 0.0), LONGEST_BLOCK_S)
    state = replace(state, rules=rules.digest, blocks=state.blocks + 1, observed=state.observed + passed)
    state, problems = learn(state, seen, rules)
    state, unready, unjudged = health.readiness(state, seen)
    if seen.frozen:
        return _hold(state, f"frozen by a person: the weights stay as they are. {weakest(state, rules)}", "freeze")
    problems += [text for text in (unjudged, health.stable_crashed(before, state), _badly_split(state)) if text]
    if seen.artifact:
        problems.append(f"the artifact of {state.canary} may not be promoted: {seen.artifact}")
    text = "; ".join(problems) or f"gathering evidence at {share(state, rules)} %: {weakest(state, rules)}"
    return (
        _harm(state, rules, unready)
        or _proof(state, seen, rules, problems)
        or _out_of_time(state, seen, rules, problems)
        or _put_back(state, seen, rules)
        or _ramp(state, seen, rules, problems)
        or _hold(state, text)
    )


def _changed(state: State, seen: Observation, rules: Rules) -> list[str]:
    pairs = (
        ("spec", state.spec, _text(seen.spec)),
        ("rules", state.rules or rules.digest, rules.digest),
        ("object", state.uid, _text(seen.uid)),
    )
    return [what for what, old, new in pairs if new and old != new]


def _anew(state: State, seen: Observation, rules: Rules, changed: list[str]) -> Decision:
    text = f"the {' and the '.join(changed)} changed: all evidence starts anew"
    fresh = {"spec": _text(seen.spec) or state.spec, "uid": _text(seen.uid) or state.uid, "rules": rules.digest}
    state = again(state, state.now, rules.rails, **fresh, reason=text)
    return Decision("start anew", state, None if seen.frozen else split_of(state, rules), text)


def _harm(state: State, rules: Rules, unready: str) -> Decision | None:
    """Crashes, proven harm, a canary that does not serve."""
    if text := health.crashed(state, rules):
        return _end(state, ROLLED_BACK, text)
    logs = logs_of(state, rules)
    harmed = [name for name, (_, r) in logs.items() if r >= rules.rollback_at]
    if harmed:
        text = "; ".join(f"{name} is worse: {told(state, name, logs[name][1], rules.rollback_at)}" for name in harmed)
        return _end(state, ROLLED_BACK, text)
    return _end(state, ROLLED_BACK, unready) if unready else None


def _proof(state: State, seen: Observation, rules: Rules, problems: list[str]) -> Decision | None:
    """A promotion, which only a clean look can give."""
    if problems or late(state, rules) or not health.all_ready(state, seen) or not _current(state, seen, rules):
        return None
    logs = logs_of(state, rules)
    stage = [name for name in logs if name != LOSS or state.phase == PROVISIONAL]  # what was proven must still stand
    if not stage or not all(logs[name][0] >= rules.promote_at for name in stage):
        return None
    if state.phase == PROVISIONAL and LOSS not in logs:
        return None
    text = "; ".join(f"{name}: {told(state, name, logs[name][0], rules.promote_at)}" for name in stage)
    if state.phase == PROVISIONAL:
        return _end(state, PROMOTED, f"the labels confirm it. {text}", action="confirm")
    last = state.step >= len(rules.ramp) - 1
    if not last and not seen.promote:
        return None
    skipped = "" if last else f"{seen.promote} skipped the rest of the ramp; "
    text = f"{skipped}no guardrail is worse by its margin. {text}"
    if rules.loss is None:
        return _end(state, PROMOTED, text)
    state = replace(state, phase=PROVISIONAL, provisional_since=state.observed, reason=text)
    return Decision("promote provisionally", state, split_of(state, rules), text)


def _out_of_time(state: State, seen: Observation, rules: Rules, problems: list[str]) -> Decision | None:
    over = late(state, rules)
    if state.phase == PROVISIONAL:
        if not over:
            return None
        why = f"{weakest(state, rules)}. {'; '.join(problems)}".strip()
        return _end(state, ROLLED_BACK, f"the labels have not confirmed it in {_wait(rules):.0f} s: {why}")
    if not over and not seen.ended:
        return None
    why = f"the time cap of {rules.cap:.0f} s was reached" if over else "the traffic ended"
    if not _current(state, seen, rules):
        why += " and there is no current data of both predictors"
        return _end(state, ROLLED_BACK, "; ".join([why, *problems]))
    if problems:
        # one bad scrape at that very moment says nothing of the canary: a clean look may still come
        if over and not seen.ended and state.observed < rules.cap + rules.stale_after:
            return None
        return _end(state, ROLLED_BACK, f"{why} with a problem: {'; '.join(problems)}")
    leaning = [name for name, (_, r) in logs_of(state, rules).items() if r >= rules.rollback_at / 2]
    if leaning:
        return _end(state, ROLLED_BACK, f"{why} and the evidence leans towards harm: {', '.join(leaning)}")
    return _end(state, HELD, f"{why} without proof either way: {weakest(state, rules)}", keep=True)


def _put_back(state: State, seen: Observation, rules: Rules) -> Decision | None:
    """Weights that someone else wrote."""
    wanted = split_of(state, rules)
    asked = seen.asked if isinstance(seen.asked, Mapping) else {}
    if not asked or dict(asked) == wanted:
        return None
    found = ", ".join(f"{str(name)[:60]} {str(weight)[:10]}" for name, weight in list(asked.items())[:5])
    text = f"the weights were changed by hand ({found}): put back to {share(state, rules)} % for the canary"
    return replace(_hold(state, text), weights=wanted)


def _ramp(state: State, seen: Observation, rules: Rules, problems: list[str]) -> Decision | None:
    if state.phase != RUNNING or state.step >= len(rules.ramp) - 1 or state.step_requests < STEP_REQUESTS:
        return None
    if problems or not health.all_ready(state, seen):
        return None
    worst = max((r for _, r in logs_of(state, rules).values()), default=0.0)
    if worst >= rules.rollback_at / 2:
        return None  # half-way to a rollback is no absence of harm
    state = replace(state, step=state.step + 1, step_requests=0)
    text = f"no sign of harm (largest E_rollback {e_text(worst)}, rolled back at {e_text(rules.rollback_at)}): "
    text += f"the canary gets {share(state, rules)} %"
    return Decision("ramp", replace(state, reason=text), split_of(state, rules), text)


def _badly_split(state: State) -> str:
    value = split.log_e(state.split) if state.split else 0.0
    if value < SPLIT_AT:
        return ""
    n, k, asked = (state.split[key] for key in ("n", "k", "told"))
    return (
        f"the gateway does not split as told: the canary got {k} of {n} requests instead of {asked:.0f} "
        f"(E {e_text(value)}, threshold {e_text(SPLIT_AT)})"
    )


def _current(state: State, seen: Observation, rules: Rules) -> bool:
    if state.last_data is None:
        return False
    return bool(seen.ended) or state.observed - state.last_data <= rules.stale_after


def late(state: State, rules: Rules) -> bool:
    """Whether the time cap, or the longest wait for labels, is over."""
    if state.phase == PROVISIONAL:
        return state.observed - (state.provisional_since or 0.0) >= _wait(rules)
    return state.observed >= rules.cap


def _wait(rules: Rules) -> float:
    return rules.loss.wait if rules.loss else rules.cap


def _end(state: State, phase: str, reason: str, keep: bool = False, action: str = "") -> Decision:
    """A final decision. The loser's predictor is removed, never left at weight 0; ``keep``: weights stay."""
    action = action or {PROMOTED: "promote", ROLLED_BACK: "roll back", HELD: "give up"}[phase]
    winner = state.canary if phase == PROMOTED else state.stable
    return Decision(action, replace(state, phase=phase, reason=reason), None if keep else {winner: 100}, reason)


def _hold(state: State, reason: str, action: str = "hold") -> Decision:
    return Decision(action, replace(state, reason=reason), None, reason)


def _noted(decision: Decision) -> Decision:
    """The decision with itself in its state's memory, which is bounded."""
    state, reason = decision.state, _cut(decision.reason, LONGEST_REASON)
    recent = state.recent
    if decision.action not in ("hold", "freeze"):
        kept = {"t": state.now, "action": decision.action, "weights": decision.weights, "reason": _cut(reason, REASON)}
        recent = [*recent, kept][-RECENT:]
    counts = {**state.counts, decision.action: state.counts.get(decision.action, 0) + 1}
    return replace(decision, state=replace(state, reason=reason, counts=counts, recent=recent), reason=reason)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def share(state: State, rules: Rules) -> int:
    """The canary's percentage in this phase and step."""
    if state.phase == PROVISIONAL:
        return 100 - (rules.loss.holdback if rules.loss else 0)
    return rules.ramp[min(state.step, len(rules.ramp) - 1)]


def split_of(state: State, rules: Rules) -> dict[str, int]:
    """The weights that belong to this phase and step."""
    return {state.stable: 100 - share(state, rules), state.canary: share(state, rules)}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
