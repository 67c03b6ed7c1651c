"""Cursors and evidence brought up to an observation; what was wrong with it is named and adds nothing. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from seaway.evidence import means, rates, split
from seaway.evidence.means import Bound
from serving.rollout.rules import GUARDRAILS, LOSS, Observation, Rules
from serving.rollout.state import PROVISIONAL, State
from serving.signals.counters import Arm, advance

SETTLE_S = 5.0  # after new weights were seen, until requests count for the check of the split


def learn(state: State, seen: Observation, rules: Rules) -> tuple[State, list[str]]:
    """The state with all that the observation adds, and what was wrong with the observation."""
    problems = [str(seen.problem)] if seen.problem else []
    if not finite(seen.now):
        problems.append("the observation has no time")
    if not seen.spec:
        problems.append("the predictors' specs were not seen")
    arms = {role: _arm(state, seen, rules, getattr(state, role)) for role in ("stable", "canary")}
    for role, arm in arms.items():
        missing = [] if arm.problems else [f"no source counts {s}" for s in _needed(rules) if not _counted(arm, s)]
        if not seen.problem:
            problems += [f"{getattr(state, role)}, {text}" for text in (*arm.problems, *missing)]
    evidence, wrong = _evidence(state, rules, arms)
    pairs, refused = _pairs(state, seen, rules)
    restarts, crashes = _crashes(state, seen)
    problems += wrong + refused
    both = all(arm.gained.get(signal, (0, 0))[0] > 0 for arm in arms.values() for signal in _needed(rules))
    learnt = replace(
        state,
        cursors={getattr(state, role): arm.cursors for role, arm in arms.items()},
        forgotten={getattr(state, role): arm.forgotten for role, arm in arms.items() if arm.forgotten},
        evidence=evidence,
        pairs=pairs,
        restarts=restarts,
        crashes=crashes,
        step_requests=state.step_requests + max((n for n, _ in arms["canary"].gained.values()), default=0),
        last_data=state.observed if both else state.last_data,
    )
    return _split(state, learnt, seen, rules, arms, not problems), problems


def _arm(state: State, seen: Observation, rules: Rules, name: str) -> Arm:
    found = seen.counters.get(name) if isinstance(seen.counters, Mapping) else None
    now = float(seen.now) if finite(seen.now) else state.now
    # what was counted before the evidence began may be another spec's
    since = now - state.started
    return advance(
        state.cursors.get(name, {}),
        found,
        rules.slo_ms,
        now=now,
        stale_s=min(rules.stale_s, since) if since >= 0 else rules.stale_s,
        forgotten=state.forgotten.get(name, 0),
    )


def _needed(rules: Rules) -> list[str]:
    return sorted({GUARDRAILS[name][0] for name in rules.rails})


def _counted(arm: Arm, signal: str) -> bool:
    return any(signal in signals for signals in arm.cursors.values())


def _evidence(state: State, rules: Rules, arms: Mapping[str, Arm]) -> tuple[dict[str, Any], list[str]]:
    known, problems = dict(state.evidence), []
    for guardrail, rail in rules.rails.items():
        signal, exchanged, _ = GUARDRAILS[guardrail]
        s, c = (arms[role].gained.get(signal, (0, 0)) for role in ("stable", "canary"))
        if exchanged:
            s, c = c, s
        old = known.get(guardrail) or rates.new_state()
        new = rates.update(old, rail, *s, *c)
        if not all(math.isfinite(v) for v in rates.log_e(new)):
            problems.append(f"{guardrail}: counts too large to be weighed ({s}, {c})")
            new = old
        known[guardrail] = new
    return known, problems


def _pairs(state: State, seen: Observation, rules: Rules) -> tuple[dict[str, Any], list[str]]:
    """Readings are cumulative and n is the cursor: more replaces, the same changes nothing, fewer is a problem."""
    bounds = {**rules.pairs, **({LOSS: rules.loss.bound} if rules.loss else {})}
    found = seen.pairs if isinstance(seen.pairs, Mapping) else {}
    known, problems = dict(state.pairs), []
    for name, bound in bounds.items():
        old = known.setdefault(name, means.new_state())
        new = found.get(name)
        if new is None:
            if name != LOSS or state.phase == PROVISIONAL:
                problems.append(f"{name}: no reading")
        elif wrong := _wrong(new, old, bound):
            problems.append(f"{name}: {wrong}")
        elif new["n"] > old["n"]:
            known[name] = {key: new[key] for key in old}
    return known, problems


def _wrong(new: Any, old: Mapping[str, Any], bound: Bound) -> str:
    """Why a reading cannot be used; '' when it can."""
    if not isinstance(new, Mapping) or not set(old) <= set(new):
        return "not a reading"
    n = new["n"]
    if isinstance(n, bool) or not isinstance(n, int) or not 0 <= n < 2**63:
        return f"its n {repr(n)[:40]} is no count"
    if n < old["n"]:
        return f"its n went from {old['n']} to {n}"
    for key, value in old.items():
        listed = isinstance(value, list)
        numbers = new[key] if listed else [new[key]]
        if not isinstance(numbers, list) or (listed and len(numbers) != len(value)):
            return f"its {key} has another shape"
        if not all(finite(v) for v in numbers):
            return f"its {key} is not finite"
    if not n * bound.low - 1e-6 * (n + 1) <= new["sum"] <= n * bound.high + 1e-6 * (n + 1):
        return f"its sum {new['sum']:g} is impossible for {n} values"
    return ""


def _crashes(state: State, seen: Observation) -> tuple[dict[str, list[int]], dict[str, int]]:
    """Crashes since the rollout began; a count that is lower twice in a row began anew (pods were replaced)."""
    known, total = dict(state.restarts), dict(state.crashes)
    for name in (state.stable, state.canary):
        count = seen.restarts.get(name) if isinstance(seen.restarts, Mapping) else None
        if not finite(count) or not 0 <= count < 2**63:
            continue
        count, old = int(count), known.get(name)
        if old is None or (count < old[0] and old[1]):
            known[name] = [count, 0]
        elif count < old[0]:
            known[name] = [old[0], 1]
        else:
            total[name] = total.get(name, 0) + count - old[0]
            known[name] = [count, 0]
    return known, {name: n for name, n in total.items() if n}


def _split(before: State, state: State, seen: Observation, rules: Rules, arms: Mapping[str, Arm], clean: bool) -> State:
    """Requests count for the split only between two clean looks under the same weights, all predictors ready."""
    names = (state.stable, state.canary)
    weights = {name: seen.weights.get(name) for name in names} if isinstance(seen.weights, Mapping) else {}
    told = {k: int(v) for k, v in weights.items() if finite(v) and 0 <= v <= 100}
    ready = isinstance(seen.ready, Mapping) and all(seen.ready.get(name) is True for name in names)
    times = [arm.oldest for arm in arms.values()]
    steady = clean and ready and len(told) == 2 and sum(told.values()) == 100 and state.crashes == before.crashes
    if not steady or None in times:
        return replace(state, served=told, served_since=None, read_at=None)
    if told != before.served or before.served_since is None:
        return replace(state, served=told, served_since=state.now, read_at=min(times))
    after = replace(state, read_at=min(times))
    if before.read_at is None or before.read_at < before.served_since + SETTLE_S:
        return after
    stable, canary = (arms[role].gained.get("errors", (0, 0))[0] for role in ("stable", "canary"))
    if not stable + canary:
        return after
    known = split.update(
        state.split or split.new_state(),
        split.Split(rules.split_tolerance),
        stable + canary,
        canary,
        told[state.canary] / 100,
    )
    return replace(after, split=known) if math.isfinite(split.log_e(known)) else after


def finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
