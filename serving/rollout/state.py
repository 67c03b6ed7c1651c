"""What a rollout knows: kept whole in the released object's annotations, so it survives its controller."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from seaway.artifacts import canonical_json, record_hash
from seaway.errors import SeawayError
from seaway.evidence import rates
from serving.rollout.limits import check_release

STATE = "seaway.dev/rollout"
RULES = "seaway.dev/rules"  # a record of serving.rollout.rules.Rules
CANDIDATE = "seaway.dev/candidate"  # identity of what is released: version, run, lineage, digest, champion
FREEZE = "seaway.dev/freeze"  # any text but "" and "false": weights stay as they are
ABORT = "seaway.dev/abort"  # a person's reason: roll back
PROMOTE = "seaway.dev/promote"  # a person's name: skip the rest of the ramp once the proof is there
LIMIT = 65_536  # bytes of the annotation
RECENT, REASON = 16, 300  # decisions that are remembered, and characters of each one's reason
RUNNING, PROVISIONAL = "running", "provisional"
PROMOTED, ROLLED_BACK, HELD = "promoted", "rolled back", "held"
UNDER_WAY = (RUNNING, PROVISIONAL)


@dataclass(frozen=True)
class State:
    """One rollout. Times are seconds since the epoch, UTC; cursors and evidence are plain records."""

    release: str
    stable: str
    canary: str
    spec: str  # hash of both predictors' specs: evidence belongs to it
    started: float
    now: float  # of the last observation
    uid: str = ""  # of the object; '' until it was first seen
    rules: str = ""  # hash of the rules: evidence belongs to its margins too
    phase: str = RUNNING
    reason: str = ""
    head: str = ""  # hash of the last entry of the decision log
    seq: int = 0  # of that entry
    step: int = 0  # of the ramp
    step_requests: int = 0  # that the canary got on this step
    blocks: int = 0
    observed: float = 0.0  # seconds under observation: time without a controller does not count
    last_data: float | None = None  # `observed` when both predictors last had new requests
    seen_ready: bool = False
    unready_since: float | None = None  # in terms of `observed`
    provisional_since: float | None = None  # in terms of `observed`
    restarts: dict[str, list[int]] = field(default_factory=dict)  # [crashes last seen, times seen lower]
    crashes: dict[str, int] = field(default_factory=dict)  # since the rollout began, by predictor
    # predictor -> source -> signal -> [requests, unwanted, times seen lower]; {} for a source without a usable count
    cursors: dict[str, dict[str, dict[str, list[int]]]] = field(default_factory=dict)
    forgotten: dict[str, int] = field(default_factory=dict)  # predictor -> sources that are gone and were dropped
    evidence: dict[str, dict[str, Any]] = field(default_factory=dict)  # guardrail -> seaway.evidence.rates
    pairs: dict[str, dict[str, Any]] = field(default_factory=dict)  # accepted readings, seaway.evidence.means
    split: dict[str, Any] = field(default_factory=dict)  # seaway.evidence.split
    served: dict[str, int] = field(default_factory=dict)  # weights that the proxy routed by, as last seen
    served_since: float | None = None  # when these weights, with all predictors ready, were first seen
    read_at: float | None = None  # when the oldest counts of the last observation were taken
    counts: dict[str, int] = field(default_factory=dict)  # decisions so far, by action
    recent: list[dict[str, Any]] = field(default_factory=list)  # the last decisions that were no holds

    def record(self) -> dict[str, Any]:
        return asdict(self)


def begin(release: str, stable: str, canary: str, spec: str, now: float, guardrails: Any) -> State:
    """A rollout without any data. ``guardrails``: the names of those on rates."""
    fresh = {name: rates.new_state() for name in guardrails}
    return State(release, stable, canary, spec, started=now, now=now, evidence=fresh)


def again(state: State, now: float, guardrails: Any, **changes: Any) -> State:
    """The same rollout for another spec, object or rules: nothing that was learnt about the old one carries over."""
    fresh = begin(state.release, state.stable, state.canary, state.spec, now, guardrails)
    kept = ("uid", "rules", "head", "seq", "blocks", "counts", "recent")
    return replace(fresh, **{**{name: getattr(state, name) for name in kept}, **changes})


def spec_hash(obj: Mapping[str, Any], *names: str) -> str:
    """Hash of the named predictors' specs without their weights; '' when one of them is not there."""
    found = {p["name"]: p for p in obj["spec"]["predictors"]}
    if any(name not in found for name in names):
        return ""
    return record_hash([{k: v for k, v in found[name].items() if k != "traffic"} for name in names])


def from_record(record: Mapping[str, Any]) -> State:
    """TypeError when a field is missing or unknown."""
    return State(**record)


def load(obj: Mapping[str, Any]) -> State | None:
    """The rollout stored in an object, or None; SeawayError when the annotation cannot be read."""
    text = annotations(obj).get(STATE)
    if not text:
        return None
    try:
        state = from_record(json.loads(text))
        check_release(state.release)
        return state
    except (ValueError, TypeError, RecursionError) as error:
        raise SeawayError(
            f"annotation {STATE} of {obj['metadata']['name']!r} is not a rollout's state ({error}); "
            "remove it to start the release anew"
        ) from None


def store(obj: Mapping[str, Any], state: State) -> dict[str, Any]:
    """A copy of the object with the state in its annotations; SeawayError above the size limit."""
    text = canonical_json(state.record())
    if len(text) > LIMIT:
        raise SeawayError(f"the state of release {state.release!r} has {len(text)} bytes; the limit is {LIMIT}")
    return annotated(obj, {STATE: text})


def annotated(obj: Mapping[str, Any], values: Mapping[str, str | None]) -> dict[str, Any]:
    """A copy with these annotations set; None removes one."""
    merged = {**annotations(obj), **values}
    kept = {k: v for k, v in merged.items() if v is not None}
    return {**obj, "metadata": {**obj["metadata"], "annotations": kept}}


def annotations(obj: Mapping[str, Any]) -> dict[str, str]:
    return dict(obj["metadata"].get("annotations") or {})


def is_frozen(obj: Mapping[str, Any]) -> bool:
    return annotations(obj).get(FREEZE, "").strip().lower() not in ("", "false")


def abort_reason(obj: Mapping[str, Any]) -> str | None:
    return annotations(obj).get(ABORT) or None


def promote_asked(obj: Mapping[str, Any]) -> str | None:
    """Who asked to skip the rest of the ramp."""
    return annotations(obj).get(PROMOTE) or None


def candidate(obj: Mapping[str, Any]) -> dict[str, Any]:
    """The identity of what is released; {} where the annotation is missing or cannot be read."""
    try:
        found = json.loads(annotations(obj).get(CANDIDATE, ""))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
