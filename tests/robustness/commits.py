"""The history as the sequence of what controllers made true: each write that was stored, and what led to it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.robustness.history import History

STATE, RULES = "seaway.dev/rollout", "seaway.dev/rules"
FREEZE, ABORT = "seaway.dev/freeze", "seaway.dev/abort"
UNDER_WAY, FINAL = ("running", "provisional"), ("promoted", "rolled back", "held")


@dataclass(frozen=True)
class Commit:
    """One stored write of a controller. ``seen``: the last answer of each kind that it got in this step."""

    event: dict[str, Any]
    obj: dict[str, Any]
    before: dict[str, Any]
    state: dict[str, Any]
    old: dict[str, Any]
    seen: dict[str, Any]

    @property
    def where(self) -> str:
        return f"event {self.event['i']} ({self.event['actor']})"

    @property
    def promotes(self) -> bool:
        """Whether more is granted than the ramp's last step: provisionally, confirmed or at once."""
        return self.state["phase"] != self.old["phase"] and self.state["phase"] in ("provisional", "promoted")

    @property
    def told_to_stop(self) -> bool:
        """By an abort or a missing predictor: it stops without adding anything up."""
        gone = {self.old["stable"], self.old["canary"]} - set(shares(self.before))
        return bool(gone or notes(self.before).get(ABORT))


def by_controller(event: Mapping[str, Any]) -> bool:
    return event["actor"].startswith("controller")


def commits(history: History) -> list[Commit]:
    if history.known is None:
        history.known = list(_commits(history))
    return history.known


def _commits(history: History) -> Iterator[Commit]:
    seen: dict[str, dict[str, Any]] = {}
    for event in history.events:
        actor = event["actor"]
        if event["kind"] == "seen":
            if event["what"] == "read":
                seen[actor] = {}  # a step begins with it
            known = seen.setdefault(actor, {})
            if (
                event["what"] != "clock" or "clock" not in known
            ):  # what a step decides by is its first look at the clock
                known[event["what"]] = event["value"]
        elif event["kind"] == "stored" and by_controller(event):
            obj, before = event["obj"], event["before"]
            state, old = state_of(obj), state_of(before)
            if state is not None and old is not None:
                yield Commit(event, obj, before, state, old, dict(seen.get(actor, {})))


def state_of(obj: Mapping[str, Any] | None) -> dict[str, Any] | None:
    text = notes(obj).get(STATE) if obj else None
    try:
        return json.loads(text) if text else None
    except ValueError:
        return None


def rules_of(obj: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(notes(obj)[RULES])


def notes(obj: Mapping[str, Any]) -> dict[str, str]:
    return obj["metadata"].get("annotations") or {}


def frozen(obj: Mapping[str, Any]) -> bool:
    return notes(obj).get(FREEZE, "").strip().lower() not in ("", "false")


def shares(obj: Mapping[str, Any]) -> dict[str, Any]:
    return {p["name"]: p.get("traffic") for p in obj["spec"]["predictors"] if not p.get("shadow")}


def specs(obj: Mapping[str, Any]) -> dict[str, str]:
    """Each predictor's spec without its weight, as text."""
    return {
        p["name"]: json.dumps({k: v for k, v in p.items() if k != "traffic"}, sort_keys=True)
        for p in obj["spec"]["predictors"]
    }


def compared(obj: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    """What evidence belongs to: the object, both specs and the rules."""
    known = specs(obj)
    return json.dumps(
        [obj["metadata"]["uid"], known.get(state["stable"]), known.get(state["canary"]), notes(obj)[RULES]]
    )


def bundle_of(obj: Mapping[str, Any], name: str) -> str | None:
    for p in obj["spec"]["predictors"]:
        if p["name"] == name:
            return next(v["value"] for v in p["graph"]["parameters"] if v["name"] == "bundle")
    return None
