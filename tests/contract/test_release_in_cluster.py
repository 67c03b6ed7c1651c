"""A whole release by the real loop over the real operator; what callers get is read from the VirtualService."""

from __future__ import annotations

import threading
import time

import pytest

from seaway.artifacts import canonical_json
from seaway.config import load
from serving.manifests import with_traffic
from serving.rollout import state as states
from serving.rollout.controller import Controller
from serving.rollout.decisions import DecisionLog
from serving.rollout.loop import Rollout
from serving.rollout.replay import replay
from serving.substrate.base import Conflict
from tests.contract.conftest import Steady, rewritten, wait_for
from tests.serving.rollout_world import RULES


def begin(kube, worse=None, shadow=False):
    """A release of ``canary`` against ``main`` at 10 percent, both ready; its signals."""
    signals = kube.substrate.signals = Steady(kube.cluster, "shop", worse)
    listed = [kube.predictor("main", 90), kube.predictor("canary", 10)]
    if shadow:
        listed.append(kube.predictor("canary-shadow", 20, shadow=True))
    obj = kube.deployment("shop", *listed)
    obj = states.annotated(obj, {states.RULES: canonical_json(RULES.record())})
    spec = states.spec_hash(obj, "main", "canary")
    kube.substrate.create(states.store(obj, states.begin("r1", "main", "canary", spec, signals.now, RULES.rails)))
    kube.substrate.wait_ready("shop")
    return signals


def rollout(kube, signals, folder, substrate=None):
    return Rollout(
        substrate or kube.substrate,
        "shop",
        log=DecisionLog(folder / "decisions.jsonl"),
        ledger=folder / "ledger.jsonl",
        on_event=lambda text: None,
        clock=signals.clock,
    )


def drive(kube, loop, signals, steps=40, settled=None):
    """Steps until a verdict, each after the operator had time to follow; the last state."""
    settled = settled or (lambda: kube.substrate.status("shop").state == "Available")
    for _ in range(steps):
        signals.pass_time()
        loop.step()
        state = states.load(kube.substrate.read("shop"))
        if state.phase not in states.UNDER_WAY:
            return state
        wait_for(settled, what="the weights as written")
    raise AssertionError(f"no verdict in {steps} steps: {state.reason}")


def test_a_good_canary_is_promoted_and_serves_alone(kube, tmp_path):
    signals = begin(kube, shadow=True)
    pods = {pod["metadata"]["uid"] for pod in kube.cluster.pods_of("canary")}
    state = drive(kube, rollout(kube, signals, tmp_path), signals)
    assert state.phase == states.PROMOTED, state.reason
    assert kube.substrate.wait_ready("shop").weights == {"canary": 100}
    assert {pod["metadata"]["uid"] for pod in kube.cluster.pods_of("canary")} == pods  # the tested ones, not new ones
    assert [w["canary"] for w in signals.seen] == sorted(w["canary"] for w in signals.seen)
    assert {w["canary"] for w in signals.seen} == set(RULES.ramp)
    assert all(sum(w.values()) == 100 for w in signals.seen)
    entries = DecisionLog(tmp_path / "decisions.jsonl").chain(state.head)
    assert entries[-1]["action"] == "promote" and all(step.same for step in replay(entries))
    assert any(reason for kind, reason, text in kube.events("shop") if "r1" in text and kind == "Normal")


def test_a_bad_canary_is_rolled_back_by_its_removal(kube, tmp_path):
    signals = begin(kube, worse={"canary": 0.3})
    loop = rollout(kube, signals, tmp_path)
    while (state := states.load(kube.substrate.read("shop"))).phase == states.RUNNING:
        signals.pass_time()
        start = time.monotonic()  # the counts that show it can be read
        loop.step()
    wait_for(lambda: kube.substrate.status("shop").weights == {"main": 100}, 10, "main at 100")
    assert time.monotonic() - start < 5
    assert state.phase == states.ROLLED_BACK and "errors is worse" in state.reason
    assert kube.substrate.wait_ready("shop").weights == {"main": 100}
    assert [p["name"] for p in kube.substrate.read("shop")["spec"]["predictors"]] == ["main"]
    assert any(kind == "Warning" for kind, reason, text in kube.events("shop"))


def test_a_canary_that_broke_is_rolled_back_although_its_weight_could_not_be_changed(kube, tmp_path):
    signals = begin(kube)
    loop = rollout(kube, signals, tmp_path)
    while not states.load(kube.substrate.read("shop")).seen_ready:
        signals.pass_time()
        loop.step()
    kube.cluster.unready("canary")
    wait_for(lambda: not kube.substrate.status("shop").ready["canary"])
    state = drive(kube, loop, signals, settled=lambda: True)
    assert state.phase == states.ROLLED_BACK and "not been ready" in state.reason
    wait_for(lambda: kube.substrate.status("shop").weights == {"main": 100}, 5)


class Dies(Exception):
    """The process was killed here."""


class Mortal:
    """A substrate whose user is killed at chosen writes: before them, or after them with the reply lost."""

    def __init__(self, substrate, before=(), after=()):
        self.substrate, self.before, self.after, self.writes = substrate, before, after, 0

    def __getattr__(self, name):
        return getattr(self.substrate, name)

    def write(self, obj):
        self.writes += 1
        if self.writes in self.before:
            raise Dies
        stored = self.substrate.write(obj)
        if self.writes in self.after:
            raise Dies
        return stored


def test_killed_before_and_after_writes_the_next_controller_goes_on(kube, tmp_path):
    signals, deaths = begin(kube), 0
    mortal = Mortal(kube.substrate, before={2, 4, 6}, after={1, 3, 5, 7})
    loop = rollout(kube, signals, tmp_path, mortal)
    for _ in range(60):
        signals.pass_time()
        try:
            loop.step()
        except Dies:
            deaths += 1
            loop = rollout(kube, signals, tmp_path, mortal)  # knows nothing but what the object holds
        state = states.load(kube.substrate.read("shop"))
        if state.phase not in states.UNDER_WAY:
            break
    assert state.phase == states.PROMOTED and deaths >= 5
    assert all(step.same for step in replay(DecisionLog(tmp_path / "decisions.jsonl").chain(state.head)))
    assert kube.substrate.wait_ready("shop").weights == {"canary": 100}


def test_two_controllers_at_once_and_a_stale_one_change_nothing_twice(kube, tmp_path):
    signals = begin(kube)
    one, two = (rollout(kube, signals, tmp_path / who) for who in ("one", "two"))
    stale = kube.substrate.read("shop")
    for _ in range(8):
        signals.pass_time()
        one.step()
        two.step()  # the same observation again
    state = states.load(kube.substrate.read("shop"))
    used = {p: s["gateway/g"]["errors"][0] for p, s in state.cursors.items()}
    for predictor, key in (("main", "n_s"), ("canary", "n_c")):
        assert 0 < state.evidence["errors"][key] <= used[predictor] <= signals.totals[predictor][0]
    with pytest.raises(Conflict):
        kube.substrate.write(stale)


class Beaten:
    """A substrate whose first write meets one of the operator's."""

    def __init__(self, substrate):
        self.substrate, self.tries = substrate, 0

    def __getattr__(self, name):
        return getattr(self.substrate, name)

    def write(self, obj):
        self.tries += 1
        if self.tries == 1:
            raise Conflict("the operator's status came first")
        return self.substrate.write(obj)


def test_a_write_that_came_second_does_not_wait_for_the_next_block(kube, tmp_path):
    begin(kube)
    rewritten(
        kube.substrate,
        "shop",
        lambda obj: states.annotated(obj, {states.RULES: canonical_json({**RULES.record(), "block": 60.0})}),
    )
    beaten = Beaten(kube.substrate)
    controller = Controller(load("local", overrides={"home": str(tmp_path)}), beaten, lambda text: None)
    assert controller.step() < 1 and beaten.tries == 1
    wait_for(lambda: controller.step() and states.load(kube.substrate.read("shop")).blocks, 10, "the second try")


def test_hand_edits_of_the_object_and_of_the_gateway_are_put_back(kube, tmp_path):
    signals = begin(kube)
    loop = rollout(kube, signals, tmp_path)
    signals.pass_time()
    loop.step()
    rewritten(kube.substrate, "shop", lambda obj: with_traffic(obj, {"main": 20, "canary": 80}))
    wait_for(lambda: kube.substrate.status("shop").weights == {"main": 20, "canary": 80})
    for _ in range(2):  # a status of Seldon's may come between reading and writing
        signals.pass_time()
        loop.step()
    weights = wait_for(lambda: (w := kube.substrate.status("shop").weights)["canary"] < 80 and w)
    assert weights["canary"] in RULES.ramp
    assert any("by hand" in text for kind, reason, text in kube.events("shop"))


def test_with_the_webhook_down_the_loop_holds_and_then_goes_on(kube, tmp_path, operator_switch):
    down, up = operator_switch
    signals = begin(kube)
    said = []
    loop = rollout(kube, signals, tmp_path)
    loop.on_event = said.append
    signals.pass_time()
    loop.step()
    before = kube.substrate.read("shop")
    down()
    stop = threading.Event()
    runner = threading.Thread(target=loop.run, args=(stop, 0.05))
    runner.start()
    signals.pass_time()
    wait_for(lambda: any("webhook" in text for text in said), what="the reason")
    assert kube.substrate.read("shop") == before  # nothing was written, nothing is lost
    up()
    wait_for(lambda: kube.substrate.read("shop") != before, 30, "the next write")
    stop.set()
    runner.join()
    state = drive(kube, loop, signals, 60)
    assert state.phase == states.PROMOTED, state.reason
