"""The loop: one atomic write a step, and a new loop goes on from the object after a kill anywhere."""

import json
import threading

import pytest

from seaway.errors import SeawayError
from serving import manifests
from serving.rollout import commands
from serving.rollout import state as states
from serving.rollout.journal import Journal
from serving.rollout.loop import Rollout
from serving.rollout.state import HELD, PROMOTED, ROLLED_BACK, RUNNING
from serving.substrate.base import Conflict
from tests.serving.rollout_world import BAD, GOOD, RULES, World, check, play_killed


def loop_of(world, tmp_path=None, events=None):
    journal = Journal(tmp_path / "journal.jsonl") if tmp_path else None
    say = events.append if events is not None else (lambda text: None)
    return Rollout(world, world.name, RULES, journal=journal, on_event=say, clock=world.clock)


def play(world, steps=300, loop=None):
    loop = loop or loop_of(world)
    for _ in range(steps):
        world.pass_time()
        if loop.step().state.phase != RUNNING:
            break
    return world.state()


def test_a_good_canary_is_promoted_as_the_very_predictor_that_was_tested(tmp_path):
    world, events = World(GOOD).begin(), []
    before = manifests.predictors(world.read("shop"))["v2"]
    state = play(world, loop=loop_of(world, tmp_path, events))
    check(world)
    assert state.phase == PROMOTED and world.weights() == {"v2": 100}
    after = manifests.predictors(world.read("shop"))["v2"]
    assert {**after, "traffic": 0} == {**before, "traffic": 0}
    assert any(text.startswith("promote: ") and "threshold 20" in text for text in events)
    kept = Journal(tmp_path / "journal.jsonl").read()
    assert [w["canary"] for w in kept["weights"]] == [25, 50, 100]
    assert len(kept["evidence"]) >= 4 * 10 and kept["event"]
    assert len(json.dumps(state.record())) < 8192


def test_a_bad_canary_is_rolled_back_and_its_predictor_removed():
    world = World(BAD).begin()
    assert play(world).phase == ROLLED_BACK
    assert world.weights() == {"v1": 100}
    check(world)


@pytest.mark.parametrize("rates", [GOOD, BAD])
def test_killed_before_and_after_every_write_it_ends_the_same(rates):
    expected = play(World(rates, seed=3).begin())
    world = World(rates, seed=3).begin()
    play_killed(world, lambda: loop_of(world))
    check(world)
    assert world.state().phase == expected.phase
    assert world.state().evidence == expected.evidence  # nothing counted twice, nothing lost
    assert world.weights() == manifests.weights(world.read("shop"))


def test_two_loops_at_once_count_nothing_twice():
    world = World(GOOD, seed=5).begin()
    one, other = loop_of(world), loop_of(world)
    for _ in range(300):
        world.pass_time()
        one.step()
        if other.step().state.phase != RUNNING:
            break
    check(world)
    errors = world.state().evidence["errors"]
    assert errors["n_c"] + errors["n_s"] <= world.requests()
    assert world.state().phase == PROMOTED


def test_a_conflict_decides_anew():
    world = World(GOOD).begin()
    world.pass_time()
    write = world.write

    def raced(obj):
        world.write = write
        raise Conflict("someone was faster")

    world.write = raced
    before = world.state()
    assert loop_of(world).step().action == "hold"
    assert world.state() == before
    assert loop_of(world).step().state.blocks == before.blocks + 1


def test_failing_signals_hold_and_then_the_cap_rolls_back():
    world = World(GOOD).begin()
    world.fail_counters = SeawayError("the proxy does not answer")
    state = play(world, steps=400)
    assert state.phase == ROLLED_BACK and "no current data" in state.reason
    assert world.weights() == {"v1": 100}


def test_a_predictor_that_dies_is_never_promoted():
    for who, phase in (("v2", ROLLED_BACK), ("v1", HELD)):
        world = World(GOOD).begin()
        play(world, steps=10)
        world.ready[who], world.restarts[who] = False, 1
        assert play(world).phase == phase
        check(world)


def test_people_win(monkeypatch):
    from seaway.config import load

    config = load()
    world = World(GOOD, name=config.workload.name).begin()
    play(world, steps=5)
    assert "frozen" in commands.freeze(config, True, world)
    before = world.weights()
    assert play(world, steps=100).phase == RUNNING and world.weights() == before
    assert commands.status(config, world)["frozen"]
    commands.freeze(config, False, world)
    assert not commands.status(config, world)["frozen"]
    assert "rolled back" in commands.abort(config, "the night shift says no", world)
    state = play(world, steps=3)
    assert state.phase == ROLLED_BACK and "night shift" in state.reason
    with pytest.raises(SeawayError, match="no release is under way"):
        commands.abort(config, "again", world)


def test_an_edited_spec_starts_anew_and_a_removed_predictor_ends_it():
    world = World(GOOD).begin()
    play(world, steps=12)
    obj = world.read("shop")
    obj["spec"]["predictors"][1]["graph"]["parameters"][0]["value"] = "/bundles/other"
    world.write(obj)
    world.pass_time()
    assert loop_of(world).step().action == "start anew"
    assert world.weights() == {"v1": 90, "v2": 10}
    world.write(manifests.with_traffic(world.read("shop"), {"v1": 100}))
    assert loop_of(world).step().state.phase == ROLLED_BACK
    assert world.weights() == {"v1": 100}


def test_run_goes_on_through_failures_and_stops_when_told(tmp_path):
    world, events = World(GOOD).begin(), []
    loop = loop_of(world, tmp_path, events)
    stop = threading.Event()
    read, calls = world.read, []

    def flaky(name):
        calls.append(name)
        if len(calls) == 2:
            raise OSError("the disk is slow today")
        if len(calls) > 6:
            stop.set()
        return read(name)

    world.read = flaky
    assert loop.run(stop, 0.001).phase == RUNNING
    assert any("the disk is slow" in text for text in events)


def test_unreadable_state_is_said_clearly():
    world = World(GOOD).begin()
    world.write(states.annotated(world.read("shop"), {states.STATE: "{not json"}))
    with pytest.raises(SeawayError, match="not a rollout's state"):
        loop_of(world).step()
    world.write(states.annotated(world.read("shop"), {states.STATE: None}))
    with pytest.raises(SeawayError, match="no release under way"):
        loop_of(world).step()


def test_a_torn_journal_line_is_left_out(tmp_path):
    journal = Journal(tmp_path / "j.jsonl")
    journal.add("event", [{"t": 1, "text": "one"}])
    with journal.path.open("a") as stream:
        stream.write('{"kind": "event", "te')
    again = Journal(journal.path)
    again.add("event", [{"t": 2, "text": "two"}])
    assert [e["text"] for e in again.read()["event"]] == ["one", "two"]
