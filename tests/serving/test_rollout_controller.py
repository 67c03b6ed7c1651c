"""The controller as a process: one step at a time, two at once, ended in order, small; and a release followed."""

import json
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from seaway import ledger
from seaway.artifacts import canonical_json
from seaway.config import load, project_root
from seaway.errors import SeawayError
from serving import manifests, release_follow
from serving.release_plan import Plan
from serving.rollout import state as states
from serving.rollout.controller import Controller
from serving.rollout.decisions import NAME, DecisionLog
from serving.rollout.loop import Rollout
from serving.rollout.replay import check
from serving.rollout.state import PROMOTED, PROVISIONAL, ROLLED_BACK, RUNNING
from serving.substrate.local import LocalSubstrate
from tests.serving.rollout_world import GOOD, RULES, World
from tests.serving.test_rollout_stages import LOSS

MIB = 1 << 20


@pytest.fixture
def home(tmp_path):
    """A home with a release under way and nothing that serves it."""
    rules = replace(RULES, block=0.2)
    listed = [manifests.Predictor("v1", 90, "/bundles/1"), manifests.Predictor("v2", 10, "/bundles/2")]
    obj = manifests.seldon_deployment("shop", "default", listed)
    state = states.begin("shop-2", "v1", "v2", states.spec_hash(obj, "v1", "v2"), time.time(), rules.rails)
    identity = {states.RULES: canonical_json(rules.record()), states.CANDIDATE: '{"version":"2","champion":"1"}'}
    LocalSubstrate(tmp_path).create(states.store(states.annotated(obj, identity), state))
    return tmp_path


def start(home, *more):
    return subprocess.Popen(
        [sys.executable, "-m", "serving.rollout.controller", "--home", str(home), *more],
        cwd=project_root(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def state_in(home):
    return states.load(LocalSubstrate(home).read("shop"))


def listens(process):
    """Whether the process handles SIGTERM by now."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    caught = next(line for line in lines if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def until(true, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_once_takes_one_step_on_every_object(home):
    said = start(home, "--once").communicate(timeout=60)[0]
    state = state_in(home)
    assert state.blocks == 1 and state.phase == RUNNING and "no observation" in state.reason
    assert "shop: hold: no observation" in said
    check(DecisionLog(home / "releases" / "shop-2" / NAME).chain(state.head), state)


def test_it_obeys_a_person_is_small_and_ends_in_order(home):
    first, other = start(home), start(home)
    try:
        until(lambda: state_in(home).blocks >= 1 and all(listens(p) for p in (first, other)))
        assert max(psutil.Process(p.pid).memory_info().rss for p in (first, other)) < 160 * MIB
        substrate = LocalSubstrate(home)
        substrate.write(states.annotated(substrate.read("shop"), {states.ABORT: "the night shift says no"}))
        asked = time.monotonic()
        until(lambda: state_in(home).phase == ROLLED_BACK)
        assert time.monotonic() - asked < 5
        assert manifests.weights(substrate.read("shop")) == {"v1": 100}
        until(lambda: (home / "ledger.jsonl").exists())
    finally:
        for process in (first, other):
            process.send_signal(signal.SIGTERM)
        ends = [process.wait(timeout=20) for process in (first, other)]
    assert ends == [0, 0]
    (line,) = ledger.read(home / "ledger.jsonl")
    assert line["entry"]["what"] == ROLLED_BACK and line["entry"]["who"] == "a person"
    assert line["entry"]["version"] == "2" and "night shift" in line["entry"]["why"]
    events = [json.loads(text) for text in (home / "logs" / "events.jsonl").read_text().splitlines()]
    assert [e["reason"] for e in events] == ["RolledBack"]
    state = state_in(home)
    check(DecisionLog(home / "releases" / "shop-2" / NAME).chain(state.head), state)


def test_an_unusable_configuration_is_said_without_a_trace(home):
    process = start(home, "--env", "nowhere")
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 2 and "nowhere" in said and "Traceback" not in said


class Places:
    """Some worlds as one substrate."""

    def __init__(self, *worlds):
        self.worlds = {world.name: world for world in worlds}
        self.down = False

    def names(self):
        if self.down:
            raise SeawayError("the API server does not answer")
        return sorted(self.worlds)

    def __getattr__(self, method):
        def call(first, *rest):
            name = first if isinstance(first, str) else first["metadata"]["name"]
            return getattr(self.worlds[name], method)(first, *rest)

        return call


def test_every_object_gets_its_own_loop_and_one_that_fails_stops_no_other(tmp_path):
    good, broken = World(GOOD, name="good"), World(GOOD, name="broken").begin(release="other")
    good.now = time.time()  # the controller's own clock
    good.begin()
    broken.write(states.annotated(broken.read("broken"), {states.RULES: "[]"}))
    places, said = Places(good, broken), []
    controller = Controller(load(overrides={"home": str(tmp_path)}), places, said.append)
    for loops in (0, 1):
        controller._due.clear()
        good.pass_time()
        controller.step()
        assert good.state().blocks == loops + 1
    assert any("broken: cannot go on yet" in text for text in said)
    places.down = True
    assert 0 < controller.step() <= 1
    assert any("cannot list" in text for text in said)
    places.down = False
    first = controller._loops["good"][1]
    good.delete("good")
    good.begin(release="shop-3")
    controller._due.clear()
    controller.step()
    assert controller._loops["good"][1] is not first and good.state().release == "shop-3"


def planned(world, tmp_path, rules=RULES):
    listed = [manifests.Predictor("v1", 90, "/bundles/1"), manifests.Predictor("v2", 10, "/bundles/2")]
    obj = manifests.seldon_deployment(world.name, "default", listed)
    return Plan("shop-2", "shop", {"version": "2"}, {"version": "1"}, {}, tmp_path / "r", {}, obj, rules)


@pytest.mark.parametrize("rules", [RULES, replace(RULES, loss=LOSS, mirror=100)])
def test_a_release_on_a_cluster_is_begun_and_followed_to_its_verdict(tmp_path, monkeypatch, rules):
    world, stop, said = World(GOOD), threading.Event(), []
    monkeypatch.setattr(release_follow, "LOOK_S", 0.01)
    from seaway.evidence import means

    def control():
        loop = Rollout(world, "shop", on_event=lambda text: None, clock=world.clock)
        loop.pairs = lambda state: {"loss": means.new_state()}
        while not stop.is_set():
            if world.objects:
                world.pass_time()
                loop.step()
            time.sleep(0.005)

    thread = threading.Thread(target=control)
    thread.start()
    try:
        state = release_follow.follow(world, planned(world, tmp_path, rules), said.append)
    finally:
        stop.set()
        thread.join()
    assert state.phase == (PROVISIONAL if rules.loss else PROMOTED) and said
    lines = [json.loads(text) for text in (tmp_path / "r" / "journal.jsonl").read_text().splitlines()]
    assert {line["kind"] for line in lines} == {"weights", "evidence", "event"}


def test_a_first_release_on_a_cluster_has_to_serve(tmp_path):
    world = World({"v2": GOOD["v2"]})
    plan = replace(planned(world, tmp_path), champion=None)
    only = manifests.seldon_deployment("shop", "default", [manifests.Predictor("v2", 100, "/bundles/2")])
    plan = replace(plan, obj=only)
    assert release_follow.follow(world, plan, lambda text: None).phase == PROMOTED
    assert world.state().phase == PROMOTED and (tmp_path / "r" / "journal.jsonl").exists()
