"""What a person does with a release from beside it: look, abort, freeze, read the ledger.

The released object is the only meeting point: these write annotations into it, and the loop obeys them at
its next step, wherever it runs.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

from seaway import ledger
from seaway.config import Config
from seaway.errors import SeawayError
from serving import manifests
from serving.rollout import state as states
from serving.rollout.rules import Rules
from serving.rollout.state import RUNNING
from serving.rollout.words import rows
from serving.substrate.base import Conflict, NotFound, Substrate


def status(config: Config, substrate: Substrate | None = None) -> dict[str, Any]:
    """Phase, weights, evidence and thresholds (logarithms of E) of the workload's release, now or last."""
    place = substrate or _local(config)
    try:
        obj = place.read(config.workload.name)
    except NotFound:
        return {"release": None, "phase": "no release yet"}
    state = states.load(obj)
    wanted = manifests.weights(obj)
    if state is None:
        return {"release": None, "phase": "not a release", "weights": wanted}
    rules = Rules.of(config.release)
    return {
        "release": state.release,
        "phase": state.phase,
        "reason": state.reason,
        "started": _iso(state.started),
        "seen": _iso(state.now),
        "observed_s": round(state.observed, 1),
        "cap_s": rules.cap,
        "stable": state.stable,
        "canary": state.canary,
        "weights": wanted,
        "frozen": states.is_frozen(obj),
        "abort": states.abort_reason(obj),
        "thresholds": {"log_e_promote": rules.promote_at, "log_e_rollback": rules.rollback_at},
        "evidence": rows(state),
        "spec": state.spec,
    }


def abort(config: Config, reason: str, substrate: Substrate | None = None) -> str:
    """Have the release under way rolled back; returns what will happen, in words."""
    name = _annotate(config, {states.ABORT: reason.strip() or "no reason given"}, substrate)
    return f"{name} will be rolled back at the next step of its loop"


def freeze(config: Config, on: bool = True, substrate: Substrate | None = None) -> str:
    """Hold the weights of the release under way as they are, or let them go again."""
    name = _annotate(config, {states.FREEZE: (os.environ.get("USER") or "true") if on else None}, substrate)
    return f"{name} is frozen: its weights stay as they are" if on else f"{name} is no longer frozen"


def history(config: Config) -> list[dict[str, Any]]:
    """The ledger's lines, oldest first; SeawayError when one was changed or is missing."""
    path = config.home / "ledger.jsonl"
    ledger.verify(path)
    return ledger.read(path)


def _annotate(config: Config, values: dict[str, str | None], substrate: Substrate | None) -> str:
    place = substrate or _local(config)
    for _ in range(20):  # the loop writes once a block: a conflict is soon over
        try:
            obj = place.read(config.workload.name)
        except NotFound:
            raise SeawayError("no release is under way: start one with `seaway release start`") from None
        state = states.load(obj)
        if state is None or state.phase != RUNNING:
            was = f"; {state.release} was {state.phase}" if state else ""
            raise SeawayError(f"no release is under way{was}")
        try:
            place.write(states.annotated(obj, values))
        except Conflict:
            continue
        return state.release
    raise SeawayError(f"{config.workload.name!r} is being written all the time; try again")


def _local(config: Config) -> Substrate:
    from serving.substrate.local import LocalSubstrate

    return LocalSubstrate(config.home)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
