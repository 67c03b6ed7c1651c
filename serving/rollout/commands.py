"""What a person does with a release from beside it: look, ask to promote, abort, freeze, read and check what was done.

The released object is the only meeting point: these write annotations into it, and the loop obeys them at
its next step, wherever it runs. ``substrate``: None takes the one that the configuration names.
"""

from __future__ import annotations

import time
from typing import Any

from seaway import ledger
from seaway.config import Config
from seaway.errors import SeawayError
from serving import manifests
from serving.rollout import rules as rules_of
from serving.rollout import state as states
from serving.rollout.decisions import NAME, DecisionLog
from serving.rollout.explain import explained
from serving.rollout.replay import replay
from serving.rollout.rules import LOSS, Rules
from serving.rollout.settle import MOVED, who
from serving.rollout.state import PROVISIONAL, UNDER_WAY, State
from serving.rollout.status import evidence, status_of
from serving.rollout.view import full_name, number
from serving.substrate.base import Conflict, NotFound, Substrate


def status(config: Config, substrate: Substrate | None = None) -> dict[str, Any]:
    """Phase, weights, evidence and thresholds (logarithms of E) of the workload's release, now or last."""
    place = substrate or _place(config)
    try:
        obj = place.read(config.workload.name)
    except NotFound:
        return {"release": None, "phase": "no release yet"}
    state = states.load(obj)
    if state is None:
        return {"release": None, "phase": "not a release", "weights": manifests.weights(obj)}
    return status_of(obj, state, _rules(config, obj))


def promote(config: Config, substrate: Substrate | None = None) -> str:
    """Ask to skip the rest of the ramp; what stands between the candidate and its promotion, in words."""
    state, rules = _annotate(config, {states.PROMOTE: who()}, substrate)
    fast = state.phase != PROVISIONAL
    lacking = [
        row
        for row in evidence(state, rules)
        if (row["guardrail"] != LOSS or not fast) and row["log_e_promote"] < row["promote_at"]
    ]
    if not fast:
        text = f"{state.release} is past the ramp and waits for its labels: there is nothing to skip."
    else:
        text = f"{state.release}: the rest of the ramp is skipped as soon as every guardrail has its proof."
    if not lacking:
        return f"{text} All have it now; the next look decides."
    return "\n".join([f"{text} Nobody promotes without proof. Still lacking:", *(_lack(row) for row in lacking)])


def _lack(row: dict[str, Any]) -> str:
    have, need = row["log_e_promote"], row["promote_at"]
    return f"  {full_name(row)}: E promote {number(have)} of {number(need)}, {number(need - have)} times too little"


def abort(config: Config, reason: str, substrate: Substrate | None = None) -> str:
    """Have the release under way rolled back; returns what will happen, in words."""
    reason = reason.strip() or "no reason given"
    state, _ = _annotate(config, {states.ABORT: f"{reason} ({who()})"}, substrate)
    return f"{state.release} will be rolled back at the next step of its loop"


def freeze(config: Config, on: bool = True, substrate: Substrate | None = None) -> str:
    """Hold the weights of the release under way as they are, or let them go again."""
    state, _ = _annotate(config, {states.FREEZE: who() if on else None}, substrate)
    if on:
        return f"{state.release} is frozen: its weights stay as they are until `seaway release freeze --off`"
    return f"{state.release} is no longer frozen"


def history(config: Config) -> list[dict[str, Any]]:
    """The ledger's lines, oldest first; SeawayError when one was changed or is missing."""
    path = config.home / "ledger.jsonl"
    ledger.verify(path)
    return ledger.read(path)


def explain(config: Config, release: str | None = None, substrate: Substrate | None = None) -> list[str]:
    """The story of a release, from its decision log decided anew; the one in the object, unless another is named."""
    state = _current(config, substrate)
    if release is None and state is None:
        raise SeawayError("there is no release to explain: start one with `seaway release start`, or name one")
    name = release or state.release
    if state is not None and state.release == name:
        head = state.head
        if state.stable == state.canary:
            return [f"{name}: {state.phase}. {state.reason}"]
    else:
        head = _head_in_ledger(config, name)
    steps = replay(decision_log(config, name).chain(head)) if head else []
    if not steps:
        return [f"{name}: nothing has been decided yet"]
    return list(explained(steps, evidence(steps[-1].decision.state, steps[-1].rules)))


def decision_log(config: Config, release: str) -> DecisionLog:
    return DecisionLog(config.home / "releases" / release / NAME)


def label(config: Config, file: str, substrate: Substrate | None = None) -> str:
    """Sign the labels in a CSV file and append them to the feed."""
    from serving.signals.labels import feed_of, read_key, tell
    from serving.signals.labels_csv import read_labels

    folder, key = feed_of(config)
    configured = bool(config.release.labels and config.release.labels.key_file)
    told = tell(folder, read_key(key, make=not configured), read_labels(file, time.time()))
    text = f"{told:,} labels signed and appended to {folder}"
    if config.release.labels is None:
        text += "; releases do not wait for labels until release.labels is configured"
    return text


def _head_in_ledger(config: Config, release: str) -> str:
    lines = [line["entry"] for line in history(config) if line["entry"].get("release") == release]
    lines = [entry for entry in lines if entry["what"] != MOVED]
    if not lines:
        known = list(dict.fromkeys(str(line["entry"].get("release")) for line in history(config)))
        hint = f"; it has: {', '.join(known[-8:])}" if known else ", which is empty"
        raise SeawayError(f"release {release!r} is neither under way nor in the ledger{hint}")
    head = (lines[-1].get("log") or {}).get("head", "")
    if not head:
        raise SeawayError(f"{release} was {lines[-1]['what']} without a decision log: {lines[-1]['why']}")
    return head


def _current(config: Config, substrate: Substrate | None) -> State | None:
    try:
        return states.load((substrate or _place(config)).read(config.workload.name))
    except NotFound:
        return None


def _annotate(config: Config, values: dict[str, str | None], substrate: Substrate | None) -> tuple[State, Rules]:
    """Write the annotations into the object of the release under way, and nothing else of it."""
    place = substrate or _place(config)
    for _ in range(20):  # the loop writes once a block: a conflict is soon over
        try:
            obj = place.read(config.workload.name)
        except NotFound:
            raise SeawayError("no release is under way: start one with `seaway release start`") from None
        state = states.load(obj)
        if state is None or state.phase not in UNDER_WAY:
            was = f"; {state.release} was {state.phase}" if state else ""
            raise SeawayError(f"no release is under way{was}")
        try:
            place.write(states.annotated(obj, values))
        except Conflict:
            continue
        return state, _rules(config, obj)
    raise SeawayError(f"{config.workload.name!r} is being written all the time; try again")


def _place(config: Config) -> Substrate:
    from serving.substrate.choose import substrate_of

    return substrate_of(config)


def _rules(config: Config, obj: dict[str, Any]) -> Rules:
    """Those that the release is judged by; for an object from before rules were kept in it, the configured ones."""
    return rules_of.load(obj) if states.annotations(obj).get(states.RULES) else Rules.of(config.release)
