"""Whether the ledger and the decision logs are what was written: every hash, every link, every decision once more."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from seaway import ledger
from seaway.artifacts import canonical_json
from seaway.config import Config
from seaway.errors import SeawayError
from serving.rollout import state as states
from serving.rollout.commands import decision_log
from serving.rollout.replay import check
from serving.rollout.rules import Rules
from serving.rollout.state import State
from serving.rollout.words import rows
from serving.substrate.base import NotFound, Substrate


@dataclass
class Verified:
    """What held. ``problem``: the first entry that did not, in words; "" when all did."""

    lines: int = 0
    torn: bool = False
    releases: set[str] = field(default_factory=set)
    ends: dict[str, tuple[State, Rules]] = field(default_factory=dict)  # by head: where that decision led
    actions: Counter[str] = field(default_factory=Counter)
    without: int = 0  # ledger lines that had nothing to decide: no decision log
    problem: str = ""

    def record(self) -> dict[str, Any]:
        known = {name: value for name, value in vars(self).items() if name != "ends"}
        numbers = {"decisions": self.decisions, "releases": sorted(self.releases), "actions": dict(self.actions)}
        return {**known, **numbers, "ok": not self.problem}

    @property
    def decisions(self) -> int:
        return len(self.ends)


def verify(config: Config, substrate: Substrate | None = None) -> Verified:
    """Check the ledger's chain; then, for each of its lines and for the release in the object, its decision log.

    A line's log must exist unchanged up to the head that the line names, lead to each of its actions again when
    decided anew, and end in the line's phase with the line's evidence, spec and rules.
    """
    found = Verified()
    try:
        _ledger(config, found)
        _object(config, substrate, found)
    except SeawayError as error:
        found.problem = str(error)
    return found


def _ledger(config: Config, found: Verified) -> None:
    path = config.home / "ledger.jsonl"
    told = ledger.verify(path)
    found.torn = told["torn"]
    for line in _longest_first(ledger.read(path)):
        entry, head = line["entry"], (line["entry"].get("log") or {}).get("head")
        found.lines += 1
        if not head:
            found.without += 1
            continue
        try:
            state, rules = _replayed(config, entry["release"], head, found)
            _agrees(entry, state, rules)
        except SeawayError as error:
            raise SeawayError(f"ledger line {line['seq']} ({entry['release']} {entry['what']}): {error}") from None


def _longest_first(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """In order, but of one release the last first: its chain holds the others', so each is decided again once."""
    place: dict[Any, int] = {}
    for i, line in enumerate(lines):
        place.setdefault(line["entry"].get("release"), i)
    return sorted(lines, key=lambda line: (place[line["entry"].get("release")], -line["seq"]))


def _replayed(
    config: Config, release: str, head: str, found: Verified, final: State | None = None
) -> tuple[State, str]:
    """The last state of the chain to ``head`` and the digest of its rules."""
    if head not in found.ends:
        entries = decision_log(config, release).chain(head)
        steps = check(entries)["steps"]
        found.releases.add(release)
        for step in steps:  # an earlier line's chain is the beginning of this one
            if step.entry["head"] not in found.ends:
                found.actions[step.entry["action"]] += 1
            found.ends[step.entry["head"]] = (step.decision.state, step.rules)
    if head not in found.ends:
        raise SeawayError("its log holds no decision")
    state, rules = found.ends[head]
    if final is not None and replace(state, head=head, seq=final.seq).record() != final.record():
        raise SeawayError("its last decision does not lead to the state in the object")
    return state, rules.digest


def _agrees(entry: Mapping[str, Any], state: State, rules: str) -> None:
    evidence = json.loads(canonical_json({"rows": rows(state)}))["rows"]
    told = (
        ("phase", entry["what"], state.phase),
        ("spec", entry.get("spec"), state.spec),
        ("rules", entry.get("rules", rules), rules),
        ("evidence", _in_order(entry.get("evidence")), _in_order(evidence)),
    )
    for what, said, decided in told:
        if said != decided:
            raise SeawayError(
                f"its {what} is not what its decision log leads to: {_brief(said)} against {_brief(decided)}"
            )


def _in_order(evidence: Any) -> Any:
    """By guardrail: a state that was stored has them by their letters, one that began anew as the rules do."""
    return sorted(evidence, key=canonical_json) if isinstance(evidence, list) else evidence


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _object(config: Config, substrate: Substrate | None, found: Verified) -> None:
    """The release in the object: its state must be where its log leads."""
    from serving.substrate.choose import substrate_of

    try:
        state = states.load((substrate or substrate_of(config)).read(config.workload.name))
    except NotFound:
        return
    if state is None or not state.head:
        return
    try:
        _replayed(config, state.release, state.head, found, state)
    except SeawayError as error:
        raise SeawayError(f"the release in the object ({state.release} {state.phase}): {error}") from None


def said(found: Verified) -> str:
    """The result in words."""
    text = f"ledger: {found.lines} lines, each unchanged and in its place" if not found.problem else ""
    if found.torn:
        text += "; a last line that a crash tore is left out"
    if found.problem:
        hint = "\nWhere Seaway itself was changed since, verify with the version that decided."
        return f"NOT as written: {found.problem}{hint if 'observation leads to' in found.problem else ''}"
    many = ", ".join(f"{n:,} {action}" for action, n in sorted(found.actions.items(), key=lambda item: -item[1]))
    who = ", ".join(sorted(found.releases)) or "no release"
    text += f"\ndecisions: {found.decisions:,} of {who} decided again, all the same"
    text += f" ({many})" if many else ""
    if found.without:
        text += f"\nlines without a decision log, as of a first release: {found.without}"
    return text
