"""Observe, decide, act: reads the released object, looks at what runs, and writes the object once.

The object holds everything: a loop that is killed before its write has done nothing, one killed after
it has done all, and the next loop goes on from the object. Two loops at once are harmless: the write
names the version that was read, so one of them gets a Conflict, reads again and decides anew.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from seaway.errors import SeawayError
from serving import manifests
from serving.rollout import state as states
from serving.rollout.journal import Journal
from serving.rollout.policy import decide
from serving.rollout.rules import Decision, Observation, Rules
from serving.rollout.state import RUNNING, State
from serving.rollout.words import rows
from serving.substrate.base import FAILED, Conflict, Substrate


class Rollout:
    """The loop of one released object. ``on_event`` gets one line of text for each thing worth saying."""

    def __init__(
        self,
        substrate: Substrate,
        name: str,
        rules: Rules,
        *,
        journal: Journal | None = None,
        on_event: Callable[[str], None] = print,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.substrate, self.name, self.rules = substrate, name, rules
        self.journal, self.on_event, self.clock = journal, on_event, clock
        self._said = ""

    def step(self, ended: bool = False) -> Decision:
        """One pass; after a Conflict the state is as it was and the next pass decides anew."""
        obj = self.substrate.read(self.name)
        state = states.load(obj)
        if state is None:
            raise SeawayError(f"{self.name!r} has no release under way: start one with `seaway release start`")
        if state.phase != RUNNING:
            return Decision("none", state, None, state.reason)
        decision = decide(state, observe(self.substrate, obj, state, self.clock(), ended), self.rules)
        try:
            self.substrate.write(applied(obj, decision))
        except Conflict:
            return Decision("hold", state, None, "the object was written by someone else: deciding anew")
        self._tell(decision, state)
        return decision

    def run(self, stop: threading.Event, period: float, ended: Callable[[], bool] = lambda: False) -> State:
        """Steps every ``period`` seconds until a verdict or ``stop``; returns the last state.

        A substrate that fails for a while is asked again; nothing is decided meanwhile.
        """
        due = time.monotonic()
        state = states.load(self.substrate.read(self.name))
        while not stop.is_set():
            try:
                state = self.step(ended()).state
            except (OSError, SeawayError) as error:
                self._say(f"cannot go on yet: {error}")
            if state is not None and state.phase != RUNNING:
                break
            due = max(due + period, time.monotonic())
            stop.wait(due - time.monotonic())
        return state

    def _tell(self, decision: Decision, before: State) -> None:
        state = decision.state
        if decision.action == "hold":
            if self.journal:
                self.journal.add("evidence", rows(state))
            # a hold is worth a line when its kind of reason changes, not each time its numbers do
            if decision.reason.split(":")[0].split("(")[0] != before.reason.split(":")[0].split("(")[0]:
                self._say(f"hold: {decision.reason}", state.now)
            return
        if self.journal:
            self.journal.add("evidence", rows(state))
            if decision.weights:
                by_role = {role: decision.weights.get(getattr(state, role), 0) for role in ("stable", "canary")}
                self.journal.add("weights", [{"t": state.now, **by_role, "predictors": decision.weights}])
        self._say(f"{decision.action}: {decision.reason}", state.now)

    def _say(self, text: str, t: float | None = None) -> None:
        if text == self._said:
            return
        self._said = text
        if self.journal:
            self.journal.add("event", [{"t": self.clock() if t is None else t, "text": text}])
        self.on_event(text)


def observe(substrate: Substrate, obj: dict[str, Any], state: State, now: float, ended: bool = False) -> Observation:
    """What can be seen at this instant; what cannot be read is left out and named."""
    seen = Observation(
        now=now,
        spec=states.spec_hash(obj, state.stable, state.canary),
        gone=next((n for n in (state.canary, state.stable) if n not in manifests.predictors(obj)), None),
        frozen=states.is_frozen(obj),
        abort=states.abort_reason(obj),
        ended=ended,
    )
    try:
        counters = substrate.counters(obj["metadata"]["name"])
        status = substrate.status(obj["metadata"]["name"])
    except (OSError, SeawayError) as error:
        return replace(seen, problem=f"no observation: {error}")
    failed = (status.message or "no reason was given") if status.state == FAILED else ""
    return replace(seen, counters=counters, ready=status.ready, restarts=status.restarts, failed=failed)


def applied(obj: dict[str, Any], decision: Decision) -> dict[str, Any]:
    """The object after a decision: weights and state together, for one write."""
    changed = manifests.with_traffic(obj, decision.weights) if decision.weights is not None else obj
    return states.store(changed, decision.state)
