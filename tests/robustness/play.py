"""One history: a release from its start to its verdict, under the faults that its seed draws."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from seaway.errors import SeawayError
from serving.rollout import state as states
from serving.rollout.decisions import DecisionLog
from serving.rollout.journal import Journal
from serving.rollout.loop import Rollout
from serving.rollout.rules import Decision
from tests.robustness.client import SKEW_S, Client, Faults, Killed
from tests.robustness.files import acting, under_faults
from tests.robustness.history import History
from tests.robustness.people import People, begun
from tests.robustness.scenario import PERIOD, STEPS, Scenario, draw_scenario
from tests.robustness.turns import Turns
from tests.robustness.world import CANARY, NAME, STABLE, World

Make = Callable[[Client, Path], Any]
MEMORY = Path("/dev/shm")
ATTEMPTS = 16  # of controllers one after the other in the same period


class Controller:
    """The real loop, made for the release that the object is at, as the controller process does."""

    def __init__(self, client: Client, home: Path) -> None:
        self.client, self.home = client, home
        self._loops: dict[str, Rollout] = {}

    def step(self) -> Decision | None:
        state = states.load(self.client.read(NAME))
        return self.loop(state.release).step() if state else None

    def loop(self, release: str) -> Rollout:
        if release not in self._loops:
            folder, client = self.home / "releases" / release, self.client
            self._loops = {
                release: Rollout(
                    client,
                    NAME,
                    log=DecisionLog(folder / "decisions.jsonl"),
                    ledger=self.home / "ledger.jsonl",
                    journal=Journal(folder / "journal.jsonl"),
                    pairs=client.pairs,
                    artifact=client.artifact,
                    on_event=lambda text: client.world.history.add("said", client.world.now, client.actor, text=text),
                    clock=client.clock,
                    release=release,
                )
            }
        return self._loops[release]


def play(seed: int, scenario: Scenario | None = None, make: Make = Controller) -> History:
    """``make``: another controller than the real one, to show that the checkers find its fault."""
    scenario = scenario or draw_scenario(seed)
    history = History(seed, scenario.record())
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder, under_faults():
        _Play(scenario, history, Path(folder), make).run()
        history.end = _files(Path(folder))
    return history


class _Play:
    def __init__(self, scenario: Scenario, history: History, home: Path, make: Make) -> None:
        self.scenario, self.history, self.home, self.make = scenario, history, home, make
        self.world = World(scenario, history)
        self.turns = Turns(np.random.default_rng([scenario.seed, 5]))
        self.faults = Faults(self.world, self.turns)
        self.people = People(self.world, self.faults)
        self.running: dict[int, tuple[Client, Any]] = {}  # by place: the first controller, and a second one at times
        self.down: dict[int, int] = {}  # periods until a killed one starts again
        self.began = 0

    def run(self) -> None:
        self.world.create(begun(self.scenario, self.world.now))
        for _ in range(STEPS):
            self._conditions()
            self.faults.harm_world()
            self.world.pass_time()
            second = self.faults.strike("two controllers", "world")
            self._round([0, 1] if second else [0], self.people.wanted())
            if self._phase() not in states.UNDER_WAY:
                break
        for _ in range(3):  # what follows the verdict meets faults too
            self.world.pass_time()
            self._round([0], [])
        self.faults.calm, self.running, self.down = True, {}, {}
        rules = self.scenario.rules
        longest = rules.cap + (rules.loss.wait if rules.loss else 0) + SKEW_S  # a clock that was ahead holds time up
        for _ in range(int(longest / PERIOD) + 60):
            self.people.calm()
            self._conditions()
            self.world.pass_time()
            self._round([0], [])
            if self._phase() not in states.UNDER_WAY:
                break
        self.running, self.down = {}, {}
        self._round([0], [])  # a controller that starts after the verdict settles what is left to settle

    def _round(self, places: list[int], actions: list[str]) -> None:
        for place in places:
            self.down[place] = self.down.get(place, 0) - 1
        due = [place for place in places if self.down[place] < 0]
        jobs = [lambda place=place: self._steps(place) for place in due]
        jobs += [lambda what=what: self.people.act(what) for what in actions]
        if len(jobs) == 1:
            jobs[0]()
        elif jobs:
            self.turns.run(*jobs)

    def _steps(self, place: int) -> None:
        """One step; when every write is to be killed, as many as it takes to get through the period."""
        for _ in range(ATTEMPTS if self.scenario.every_write and not self.faults.calm else 1):
            if self._step(place):
                return
        if place not in self.running:
            self.down[place] = int(self.faults.draw.integers(0, 4)) if not self.faults.calm else 0

    def _step(self, place: int) -> bool:
        """False when the controller was killed."""
        if place not in self.running:
            self.began += 1
            client = Client(self.world, self.faults, f"controller-{self.began}")
            self.history.add("began", self.world.now, client.actor, skew=client.skew)
            self.running[place] = (client, self.make(client, self.home))
        client, loop = self.running[place]
        try:
            with acting(client):
                decision = loop.step()
            if decision is not None:
                more = {"action": decision.action, "phase": decision.state.phase, "reason": decision.reason}
                self.history.add("decided", self.world.now, client.actor, **more)
        except Killed:
            del self.running[place]
            self.history.add("killed", self.world.now, client.actor)
            return False
        except (OSError, SeawayError) as error:  # as the loop's own run() takes them
            self.history.add(
                "failed", self.world.now, client.actor, what="step", error=f"{type(error).__name__}: {error}"
            )
        except Exception as error:
            self.history.add("raised", self.world.now, client.actor, error=f"{type(error).__name__}: {error}")
        return True

    def _conditions(self) -> None:
        conditions = self.scenario.conditions
        if "canary never ready" in conditions:
            self.world.never_ready = {CANARY}
        if "canary crash loop" in conditions and int(self.world.now / PERIOD) % 5 == 0:
            self.world.crash(CANARY)
        if "gateway splits otherwise" in conditions:
            self.world.split = {STABLE: 40, CANARY: 60}

    def _phase(self) -> str:
        obj = self.world.objects.get(NAME)
        try:
            state = states.load(obj) if obj else None
        except SeawayError:
            return "unreadable"
        return state.phase if state else "no release"


def _files(home: Path) -> dict[str, Any]:
    """All that is on disk at the end, by path; a line that is no JSON as its text."""
    return {
        path.relative_to(home).as_posix(): [_line(text) for text in path.read_bytes().split(b"\n") if text]
        for path in sorted(home.rglob("*.jsonl*"))
    }


def _line(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text.decode(errors="replace")
