"""What follows a verdict outside of the object: an event and one line of the ledger. May be repeated any time."""

from __future__ import annotations

import fcntl
import getpass
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from seaway import ledger
from serving.rollout import state as states
from serving.rollout.rules import Rules
from serving.rollout.state import HELD, PROMOTED, PROVISIONAL, ROLLED_BACK, State
from serving.rollout.words import rows
from serving.substrate.base import Substrate

REASONS = {
    PROVISIONAL: "PromotedProvisionally",
    PROMOTED: "Promoted",
    ROLLED_BACK: "RolledBack",
    HELD: "Held",
}
MOVED = "moved"  # what a line says of a promotion from one environment to another: no verdict
_ACTIONS = ("promote", "promote provisionally", "confirm", "roll back", "give up")


def settle(
    substrate: Substrate | None, obj: Mapping[str, Any], state: State, rules: Rules, path: Path | None
) -> dict[str, Any] | None:
    """The ledger's line of the phase that ``state`` is in, written once; None without a ledger or a verdict.

    The event comes first, so a kill between the two says it twice rather than never.
    """
    if state.phase not in REASONS:
        return None
    line = entry(obj, state, rules)
    if path is not None and (found := known(path, line)):
        return found
    if substrate is not None:
        warning = state.phase in (ROLLED_BACK, HELD)
        substrate.event(obj["metadata"]["name"], REASONS[state.phase], f"{state.release}: {state.reason}", warning)
    if path is None:
        return None
    with writing(path):
        return known(path, line) or ledger.append(path, line)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Nobody else looks for a line of this ledger to write it meanwhile: of two who would, one does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(path.name + ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def entry(obj: Mapping[str, Any], state: State, rules: Rules) -> dict[str, Any]:
    """Who did what and why, on which evidence, about which artifact."""
    what = states.candidate(obj)
    last = next((r for r in reversed(state.recent) if r["action"] in _ACTIONS), None) or {}
    still = state.phase == PROVISIONAL  # then the reason is of the last hold
    return {
        "what": state.phase,
        "action": last.get("action", state.phase),
        "who": "a person" if states.abort_reason(obj) and state.phase == ROLLED_BACK else "release loop",
        "why": last.get("reason", state.reason) if still else state.reason,
        "release": state.release,
        "workload": obj["metadata"]["name"],
        "version": what.get("version"),
        "champion": what.get("champion"),
        "run": what.get("run"),
        "lineage": what.get("lineage"),
        "digest": what.get("digest"),
        "bundle": what.get("bundle"),
        "infrastructure": what.get("infrastructure"),
        "faults": what.get("faults"),
        "spec": state.spec,
        "rules": rules.digest,
        "started": iso(state.started),
        "thresholds": thresholds(rules),
        "evidence": rows(state),
        "log": {"head": state.head, "seq": state.seq},
    }


def thresholds(rules: Rules) -> dict[str, float]:
    """On E itself, not on its logarithm."""
    return {"promote": 1 / rules.alpha_promote, "rollback": max(1, len(rules.guardrails)) / rules.alpha_rollback}


def known(path: Path, line: Mapping[str, Any]) -> dict[str, Any] | None:
    """The line of this very decision, if it was written."""
    same = ("release", "spec", "started", "what")
    for old in reversed(ledger.read(path)):
        if all(old["entry"].get(key) == line[key] for key in same):
            return old
    return None


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def who() -> str:
    """The person who runs this, as the ledger and an object's annotations name them."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "somebody"
