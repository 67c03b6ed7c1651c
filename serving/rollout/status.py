"""A release's status as a record: for ``release status --json``, and for the views that are drawn from it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from serving import manifests
from serving.rollout import state as states
from serving.rollout.policy import SPLIT_AT
from serving.rollout.rules import GUARDRAILS, LOSS, Rules
from serving.rollout.state import PROVISIONAL, UNDER_WAY, State
from serving.rollout.words import counts, logs_of, numbers, split_row


def status_of(obj: Mapping[str, Any], state: State, rules: Rules) -> dict[str, Any]:
    """All that is known of the release in an object. Thresholds and evidence are natural logarithms of E."""
    compared = state.stable != state.canary  # a first release has nothing to be compared with
    split = split_row(state)
    return {
        "release": state.release,
        "phase": state.phase,
        "reason": state.reason,
        "started": _iso(state.started),
        "seen": _iso(state.now),
        "seen_ago_s": round(time.time() - state.now, 1),
        "observed_s": round(state.observed, 1),
        "cap_s": rules.cap,
        "left_s": _left(state, rules),
        "stable": state.stable,
        "canary": state.canary,
        "shadow": manifests.shadow(obj),
        "weights": manifests.weights(obj),
        "routed": dict(state.served) if state.phase in UNDER_WAY else {},
        "requests": _requests(state),
        "frozen": states.annotations(obj).get(states.FREEZE) if states.is_frozen(obj) else False,
        "abort": states.abort_reason(obj),
        "promote": states.promote_asked(obj),
        "thresholds": {"log_e_promote": rules.promote_at, "log_e_rollback": rules.rollback_at},
        "evidence": evidence(state, rules) if compared else [],
        "split": split and {**split, "at": SPLIT_AT},
        "labels": _labels(state, rules),
        "decisions": dict(state.counts),
        "recent": [{**event, "time": f"{_moment(event['t']):%m-%d %H:%M:%S}"} for event in state.recent],
        "log": {"head": state.head, "seq": state.seq},
        "spec": state.spec,
        "candidate": states.candidate(obj),
    }


def evidence(state: State, rules: Rules) -> list[dict[str, Any]]:
    """Every guardrail's e-values and thresholds (natural logarithms) and what they come from; also one without data."""
    found = []
    for name, (promote, rollback) in logs_of(state, rules).items():
        if name in GUARDRAILS:
            made_of: dict[str, Any] = {"kind": "rates", **counts(state, name)}
        else:
            n, mean = numbers(state, name)
            made_of = {"kind": "loss" if name == LOSS else "pairs", "n": n, "mean": mean if n else None}
        limits = {"promote_at": rules.promote_at, "rollback_at": rules.rollback_at}
        found.append({"guardrail": name, "log_e_promote": promote, "log_e_rollback": rollback, **limits, **made_of})
    return found


def _left(state: State, rules: Rules) -> float | None:
    """Seconds under observation until the time cap, or until the labels must have confirmed."""
    if state.phase not in UNDER_WAY:
        return None
    if state.phase == PROVISIONAL and rules.loss:
        return round(max(0.0, rules.loss.wait - (state.observed - (state.provisional_since or 0.0))), 1)
    return round(max(0.0, rules.cap - state.observed), 1)


def _requests(state: State) -> dict[str, int]:
    """Requests in evidence, by role."""
    found = [counts(state, name) for name in state.evidence if name in GUARDRAILS]
    return {role: max((arms[role]["n"] for arms in found), default=0) for role in ("stable", "canary")}


def _labels(state: State, rules: Rules) -> str:
    if rules.loss is None:
        return ""
    n, _ = numbers(state, LOSS)
    text = f"labels: {n:,} of requests that both versions scored"
    if state.phase == PROVISIONAL:
        return f"{text}; they confirm, or roll back"
    if state.phase not in UNDER_WAY:
        return text
    return f"{text}; promotion is provisional until they confirm"


def _iso(seconds: float) -> str:
    return _moment(seconds).isoformat(timespec="seconds")


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
