"""Observe, decide, act: reads the released object, looks at what runs, and writes the object once.

The object holds everything: a loop that is killed before its write has done nothing, one killed after
it has done all, and the next loop goes on from the object. Two loops at once are harmless: the write
names the version that was read, so one of them gets a Conflict, reads again and decides anew.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from seaway.errors import SeawayError
from serving import manifests
from serving.rollout import rules as rules_of
from serving.rollout import state as states
from serving.rollout.decisions import DecisionLog
from serving.rollout.journal import Journal
from serving.rollout.observe import observe
from serving.rollout.policy import LONGEST_BLOCK_S, decide
from serving.rollout.rules import Decision, Observation, Rules
from serving.rollout.settle import settle
from serving.rollout.state import PROVISIONAL, RUNNING, UNDER_WAY, State
from serving.rollout.words import kind, rows, split_row
from serving.substrate.base import Conflict, Substrate

BEATEN = "the object was written by someone else: deciding anew"
SKIP_S = LONGEST_BLOCK_S / 2  # a hold without anything new is not written, at most for so long
CHECKED = ("promote", "promote provisionally", "confirm", "give up")  # decisions that ask for the artifact
NO_RULES = Rules(ramp=(1,), cap=1.0, alpha_promote=0.05, alpha_rollback=0.05, rails={})  # proves nothing
_ITSELF = ("now", "blocks", "observed", "reason", "head", "seq", "counts", "read_at")  # no news in these fields


class Rollout:
    """The loop of one released object. ``on_event`` gets one line of text for each thing worth saying.

    ``rules``: None takes those in the object. ``pairs`` gives the cumulative readings of guardrails on pairs,
    with what is wrong with them under "problem". ``release``: the one that log and journal are for; another one
    that began since is refused, it has a log of its own. ``artifact`` says why the canary may not be promoted, or "".
    """

    def __init__(
        self,
        substrate: Substrate,
        name: str,
        rules: Rules | None = None,
        *,
        log: DecisionLog | None = None,
        ledger: Path | None = None,
        journal: Journal | None = None,
        pairs: Callable[[State], Mapping[str, Any]] | None = None,
        artifact: Callable[[dict[str, Any], State], str] | None = None,
        on_event: Callable[[str], None] = print,
        clock: Callable[[], float] = time.time,
        release: str | None = None,
    ) -> None:
        self.substrate, self.name, self.rules = substrate, name, rules
        self.log, self.ledger, self.journal = log, ledger, journal
        self.pairs, self.artifact = pairs, artifact
        self.on_event, self.clock, self.release = on_event, clock, release
        self._said = ""
        self._settled: tuple[str, float, str] | None = None

    def step(self, ended: bool = False) -> Decision:
        """One pass; after a Conflict the state is as it was and the next pass decides anew."""
        obj = self.substrate.read(self.name)
        state = states.load(obj)
        if state is None:
            raise SeawayError(f"{self.name!r} has no release under way: start one with `seaway release start`")
        if self.release not in (None, state.release):
            raise SeawayError(f"release {state.release!r} has begun in place of {self.release!r}")
        rules = self.rules or self._rules(obj)
        self._settle(obj, state, rules)
        if state.phase not in UNDER_WAY:
            return Decision("none", state, None, state.reason)
        seen = observe(self.substrate, obj, state, self.clock(), ended, rules=rules, pairs=self.pairs)
        decision = decide(state, seen, rules)
        if self.artifact and decision.action in CHECKED:
            seen = replace(seen, artifact=self._artifact(obj, state))
            decision = decide(state, seen, rules)
        if nothing_new(state, decision):
            return decision
        decision = replace(decision, state=self._logged(state, seen, decision, rules))
        changed = applied(obj, decision)
        try:
            self.substrate.write(changed)
        except Conflict:
            return Decision("hold", state, None, BEATEN)
        self._tell(decision, state)
        self._settle(changed, decision.state, rules)
        return decision

    def run(self, stop: threading.Event, period: float, ended: Callable[[], bool] = lambda: False) -> State:
        """Steps every ``period`` seconds (60 at the most) until a verdict or ``stop``; returns the last state.

        A substrate that fails for a while is asked again; nothing is decided meanwhile. With the traffic
        ended, a provisional promotion is left as it is after one more look: its labels come later.
        """
        period = min(period, LONGEST_BLOCK_S)
        due = time.monotonic()
        state = states.load(self.substrate.read(self.name))
        while not stop.is_set():
            over, seen = ended(), False
            try:
                decision = self.step(over)
                state, seen = decision.state, decision.action != "promote provisionally"
            except (OSError, SeawayError) as error:
                self._say(f"cannot go on yet: {error}")
            if state is not None and (state.phase not in UNDER_WAY or (state.phase == PROVISIONAL and over and seen)):
                break
            due = max(due + period, time.monotonic())
            stop.wait(due - time.monotonic())
        return state

    def _rules(self, obj: dict[str, Any]) -> Rules:
        """Of the object; whatever became of them there, a person's abort needs none."""
        try:
            return rules_of.load(obj)
        except SeawayError:
            if states.abort_reason(obj) is None:
                raise
            return NO_RULES

    def _logged(self, state: State, seen: Observation, decision: Decision, rules: Rules) -> State:
        """The decision in its log, before it is done. A full disk does not keep a harmful canary up."""
        if self.log is None:
            return decision.state
        try:
            return self.log.append(state, seen, decision, rules)
        except OSError as error:
            if decision.action != "roll back":
                raise
            self._say(f"this rollback is missing in the decision log, which cannot be written: {error}")
            return decision.state

    def _artifact(self, obj: dict[str, Any], state: State) -> str:
        try:
            return self.artifact(obj, state)
        except (OSError, SeawayError) as error:
            return f"it cannot be checked: {error}"

    def _settle(self, obj: Mapping[str, Any], state: State, rules: Rules) -> None:
        """Event and ledger of a phase, once; tried again at the next step when they cannot be written."""
        phase = (state.release, state.started, state.phase)
        if state.phase == RUNNING or self._settled == phase:
            return
        try:
            settle(self.substrate, obj, state, rules, self.ledger)
            self._settled = phase
        except (OSError, SeawayError) as error:
            self._say(f"the ledger cannot be written yet: {error}")

    def _tell(self, decision: Decision, before: State) -> None:
        state = decision.state
        if self.journal:
            self.journal.add("evidence", rows(state))
            split = split_row(state)
            self.journal.add("split", [split] if split else [])
        if decision.action in ("hold", "freeze") and decision.weights is None:
            # a hold is worth a line when its kind of reason changes, not each time its numbers do
            if kind(decision.reason) != kind(before.reason):
                self._say(f"{decision.action}: {decision.reason}", state.now)
            return
        if decision.weights:
            by_role = {role: decision.weights.get(getattr(state, role), 0) for role in ("stable", "canary")}
            if self.journal:
                self.journal.add("weights", [{"t": state.now, **by_role, "predictors": decision.weights}])
        if state.phase == before.phase:  # a new phase is told when it is settled
            words = "PutBack" if decision.action == "hold" else decision.action.title().replace(" ", "")
            self.substrate.event(self.name, words, f"{state.release}: {decision.reason}", decision.action != "ramp")
        self._say(f"{decision.action}: {decision.reason}", state.now)

    def _say(self, text: str, t: float | None = None) -> None:
        if text == self._said:
            return
        self._said = text
        if self.journal:
            self.journal.add("event", [{"t": self.clock() if t is None else t, "text": text}])
        self.on_event(text)


def nothing_new(state: State, decision: Decision) -> bool:
    """Whether a hold may stay unwritten: the next observation then covers this one's time too."""
    new = decision.state
    if decision.action not in ("hold", "freeze") or decision.weights is not None or not state.rules:
        return False
    same = replace(new, **{name: getattr(state, name) for name in _ITSELF})
    return same == state and kind(new.reason) == kind(state.reason) and 0 <= new.now - state.now < SKIP_S


def applied(obj: dict[str, Any], decision: Decision) -> dict[str, Any]:
    """The object after a decision: weights and state together, for one write. A verdict ends the shadow."""
    over = decision.state.phase not in UNDER_WAY
    changed = manifests.with_traffic(obj, decision.weights) if decision.weights is not None else obj
    if over and manifests.shadow(changed):
        listed = [p for p in changed["spec"]["predictors"] if not p.get("shadow")]
        changed = {**changed, "spec": {**changed["spec"], "predictors": listed}}
    return states.store(changed, decision.state)
