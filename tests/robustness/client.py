"""The world as one controller sees it: every call may fail, lie, come late or be the last thing it does."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from seaway.errors import SeawayError
from serving import manifests
from serving.rollout.state import State
from serving.substrate.base import Conflict, Counters, Status
from tests.robustness.scenario import PERIOD
from tests.robustness.turns import Turns
from tests.robustness.world import CANARY, STABLE, World

SKEW_S = 600.0
WORDS = {"object": "write", "log": "log line", "ledger": "ledger line"}
# what is done to every write in the scenarios that have `every_write`, over and over
CYCLES = {
    "object": ("before", "after", ""),
    "log": ("before", "torn", "after", ""),
    "ledger": ("before", "torn", "after", ""),
}


class Killed(BaseException):
    """Stands for SIGKILL: no handler of the controller runs after it that could change anything."""


class Faults:
    """Draws which faults strike; shared by all controllers of one history, so that its order is the history's."""

    def __init__(self, world: World, turns: Turns) -> None:
        self.world, self.turns = world, turns
        self.draw = np.random.default_rng([world.scenario.seed, 3])
        self.calm = False
        self._cycles = {kind: itertools.cycle(cycle) for kind, cycle in CYCLES.items()}

    def strike(self, kind: str, actor: str, where: str = "") -> bool:
        share = self.world.scenario.faults.get(kind, 0.0)
        if self.calm or not share or self.draw.random() >= share:
            return False
        self.note(kind, actor, where)
        return True

    def note(self, kind: str, actor: str, where: str = "") -> None:
        self.world.history.add("fault", self.world.now, actor, what=kind, where=where)

    def write_fault(self, kind: str, actor: str) -> str:
        """before, after, torn or nothing: how this write of an object, log line or ledger line ends."""
        if self.calm:
            return ""
        if self.world.scenario.every_write:
            found = next(self._cycles[kind])
            if found:
                self.note(f"torn {WORDS[kind]}" if found == "torn" else f"kill {found} a {WORDS[kind]}", actor)
            return found
        for moment in ("before", "after"):
            if self.strike(f"kill {moment} a {WORDS[kind]}", actor):
                return moment
        return "torn" if kind != "object" and self.strike(f"torn {WORDS[kind]}", actor) else ""

    def some(self, values: Any) -> Any:
        values = sorted(values)
        return values[int(self.draw.integers(len(values)))]

    def harm_world(self) -> None:
        """Faults of what runs, once a period."""
        world, strike = self.world, lambda kind: self.strike(kind, "world")
        names = sorted(world.pods) or [CANARY]
        if strike("counter reset"):
            world.reset(self.some(names))
        if strike("pod replaced"):
            world.replace_pod(self.some(names))
        if strike("canary crash"):
            world.crash(CANARY)
        if strike("stable crash"):
            world.crash(STABLE)
        world.outage = 10.0 if strike("common outage") else 1.0


class Client:
    """A substrate for one incarnation of a controller; ``actor`` is its name in the history."""

    metrics_url = ""

    def __init__(self, world: World, faults: Faults, actor: str) -> None:
        self.world, self.faults, self.actor = world, faults, actor
        self.skew = float(faults.some([-SKEW_S, SKEW_S])) if faults.strike("clock skew", actor) else 0.0

    def clock(self) -> float:
        return self._saw("clock", self.world.now + (0.0 if self.faults.calm else self.skew))

    # the API
    def read(self, name: str) -> dict[str, Any]:
        self._call("read")
        found = self.world.read(name)
        older = [o for o in self.world.past if o["metadata"]["name"] == name][:-1][-4:]
        if older and self.faults.strike("stale object", self.actor):
            found = copy.deepcopy(older[int(self.faults.draw.integers(len(older)))])
        return self._saw("read", found, value=[found["metadata"]["resourceVersion"], found["metadata"]["uid"]])

    def write(self, obj: dict[str, Any]) -> dict[str, Any]:
        manifests.validate(obj)
        self._call("write")
        moment = self.faults.write_fault("object", self.actor)
        if moment == "before":
            raise Killed
        if self.faults.strike("conflict 409", self.actor, "write"):
            raise Conflict("409: the object has been modified")
        stored = self.world.write(obj, self.actor)
        if moment == "after":
            raise Killed
        if self.faults.strike("lost reply", self.actor, "write"):
            raise SeawayError("the connection was closed before an answer came")
        self.faults.turns.pause()
        return stored

    def create(self, obj: dict[str, Any]) -> dict[str, Any]:
        raise AssertionError("a controller creates no objects")

    delete = wait_ready = create

    def names(self) -> list[str]:
        self._call("names")
        return self.world.names()

    def event(self, name: str, reason: str, text: str, warning: bool = False) -> None:
        self.faults.turns.pause()
        self.world.history.add("said", self.world.now, self.actor, reason=reason, text=text)

    def status(self, name: str) -> Status:
        self._call("status")
        if self.faults.strike("status down", self.actor):
            raise SeawayError("the status cannot be read")
        found = self.world.status(name)
        return self._saw(
            "status", found, value={"ready": found.ready, "restarts": found.restarts, "weights": found.weights}
        )

    def counters(self, name: str) -> dict[str, dict[str, Counters]]:
        self._call("counters")
        if self.faults.strike("signals down", self.actor):
            raise SeawayError("the metrics cannot be read")
        if self.faults.strike("signals slow", self.actor):
            self.world.pass_time(PERIOD)
        found = self._harmed(self.world.counters(name))
        value = {p: {s: vars(c) for s, c in sources.items()} for p, sources in found.items()}
        return self._saw("counters", found, value=value)

    def pairs(self, state: State) -> Mapping[str, Any]:
        """What the feed of pairs and labels says; its own faults are those of a file that cannot be read."""
        self.faults.turns.pause()
        if self.faults.strike("pair feed down", self.actor):
            raise SeawayError("the prediction log cannot be read")
        found = self.world.pair_states(state)
        if "labels absent" in self.world.scenario.conditions:
            found.pop("loss", None)
        if self.faults.strike("pair feed shrinks", self.actor):
            found = self.world.older_pairs or found  # a log that is not whole: fewer than were read before
        else:
            self.world.older_pairs = self.world.newer_pairs
            self.world.newer_pairs = copy.deepcopy(found)
        return self._saw("pairs", found, value=copy.deepcopy(found), spec=state.spec)

    def artifact(self, obj: Mapping[str, Any], state: State) -> str:
        bad = "bad artifact" in self.world.scenario.conditions
        return self._saw("artifact", "the signature does not fit" if bad else "")

    # faults
    def _call(self, what: str) -> None:
        """What may happen to any call before it does anything."""
        self.faults.turns.pause()
        if what != "write" and self.faults.strike("kill at a read", self.actor, what):
            raise Killed
        for kind, error in (
            ("too many requests 429", SeawayError("429: slow down")),
            ("server error 500", SeawayError("500: etcd leader changed")),
            ("timeout", TimeoutError("the API server did not answer")),
        ):
            if self.faults.strike(kind, self.actor, what):
                self.world.history.add("failed", self.world.now, self.actor, what=what, error=str(error))
                raise error

    def _saw(self, what: str, found: Any, **more: Any) -> Any:
        self.world.history.add("seen", self.world.now, self.actor, what=what, **{"value": found, **more})
        return found

    def _harmed(self, found: dict[str, dict[str, Counters]]) -> dict[str, dict[str, Counters]]:
        """A reading as a provider under stress gives it; the world's own record stays as it is."""
        strike, some = self.faults.strike, self.faults.some
        old = list(self.world.readings)
        if old and strike("signals stuck", self.actor):
            found = old[int(self.faults.draw.integers(len(old)))]  # an old reading, with its old times
        found = {name: dict(sources) for name, sources in found.items()}
        if not found:
            return found
        name = some(found)
        if found[name]:
            source = some(found[name])
            counts = found[name][source]
            if strike("not a number", self.actor):
                value = some([float("nan"), float("inf"), -1.0])
                counts = replace(counts, **{str(some(["requests", "errors", "decisions"])): value})
            if strike("nonsense counts", self.actor):
                value = [None, "7", 0.5, True, [], 10**30, {}][int(self.faults.draw.integers(7))]
                counts = replace(counts, **{str(some(["requests", "slow", "answered"])): value})
            if strike("future timestamp", self.actor):
                counts = replace(counts, at=self.world.now + float(some([60.0, 600.0, 1e12])))
            if strike("old timestamp", self.actor):
                counts = replace(counts, at=self.world.now - float(some([60.0, 600.0])))
            found[name][source] = counts
            if strike("source missing", self.actor):
                del found[name][source]
        if strike("predictor missing", self.actor):
            del found[some(found)]
        return found
