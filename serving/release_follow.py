"""A release on a cluster, seen from here: the object is written once, then the controller there decides."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from seaway.errors import SeawayError
from serving import manifests
from serving.release_enter import TRIES, begin_journal, enter
from serving.release_guard import interrupts
from serving.release_plan import Plan
from serving.rollout import state as states
from serving.rollout.journal import Journal
from serving.rollout.state import PROMOTED, PROVISIONAL, RUNNING, UNDER_WAY, State
from serving.rollout.words import kind, rows
from serving.substrate.base import Conflict, Substrate

LOOK_S = 5.0  # between two looks at the most
SILENT_S = 120.0  # without a step of the controller, until that is said
READY_S = 300.0  # a first version, until it serves


def follow(substrate: Substrate, plan: Plan, on_event: Callable[[str], None]) -> State:
    """Create or change the object and follow it to a verdict; from its beginning, to a provisional one. The last state.

    Interrupted, the release goes on without us: SeawayError says so.
    """
    state = enter(substrate, plan, on_event)
    journal = begin_journal(plan, state)
    with interrupts() as stop:
        stop.gentle = True
        if plan.champion is None:
            return _first(substrate, plan, journal, on_event)
        return _followed(substrate, plan, state, journal, stop, on_event)


def _followed(
    substrate: Substrate,
    plan: Plan,
    state: State,
    journal: Journal,
    stop: threading.Event,
    on_event: Callable[[str], None],
) -> State:
    name = plan.obj["metadata"]["name"]
    weights, moved, silent = manifests.weights(plan.obj), time.monotonic(), False
    waits = UNDER_WAY if state.phase == PROVISIONAL else (RUNNING,)
    while state.phase in waits:
        if stop.wait(min(plan.rules.block, LOOK_S)):
            raise SeawayError(f"{plan.name} goes on without this command: `seaway release watch` shows it")
        try:
            obj = substrate.read(name)
            found = states.load(obj)
        except (OSError, SeawayError) as error:
            on_event(f"cannot look at {name}: {error}")
            continue
        if found is None or found.release != plan.name:
            raise SeawayError(f"{name!r} is no longer under {plan.name}: someone else released there")
        if found.blocks != state.blocks or found.phase != state.phase:
            journal.add("evidence", rows(found))
            moved, silent = time.monotonic(), False
        elif time.monotonic() - moved > SILENT_S and not silent:
            silent = True
            on_event(f"no controller has looked at {name} for {SILENT_S:.0f} s: is it running?")
        if manifests.weights(obj) != weights:
            weights = manifests.weights(obj)
            by_role = {role: weights.get(getattr(found, role), 0) for role in ("stable", "canary")}
            journal.add("weights", [{"t": found.now, **by_role, "predictors": weights}])
        if kind(found.reason) != kind(state.reason):
            journal.add("event", [{"t": found.now, "text": found.reason}])
            on_event(found.reason)
        state = found
    return state


def _first(substrate: Substrate, plan: Plan, journal: Journal, on_event: Callable[[str], None]) -> State:
    """No champion to compare with, and no traffic of ours: it has to serve."""
    name = plan.obj["metadata"]["name"]
    substrate.wait_ready(name, READY_S)
    text = "first release: no champion to compare with; it is ready to serve"
    for tries in range(TRIES + 1):
        obj = substrate.read(name)
        state = replace(states.load(obj) or plan.begun(time.time()), phase=PROMOTED, reason=text, now=time.time())
        try:
            substrate.write(states.store(obj, state))
            break
        except Conflict:  # the operator's status
            if tries == TRIES:
                raise
            time.sleep(0.2)
    journal.add("event", [{"t": state.now, "text": text}])
    on_event(text)
    return state
