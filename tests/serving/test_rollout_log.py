"""The decision log, its replay, and what follows a verdict: whole after a kill anywhere, and telling when changed."""

import json
from dataclasses import replace

import pytest

from seaway import ledger
from seaway.errors import SeawayError
from serving import manifests
from serving.rollout import state as states
from serving.rollout.decisions import NAME, DecisionLog
from serving.rollout.loop import SKIP_S, Rollout
from serving.rollout.replay import check, replay
from serving.rollout.rules import Rules
from serving.rollout.state import PROMOTED, PROVISIONAL, ROLLED_BACK, RUNNING
from serving.substrate.base import Conflict
from tests.serving.rollout_world import BAD, GOOD, RULES, Killed, World, play_killed
from tests.serving.rollout_world import check as check_world
from tests.serving.test_rollout_stages import LOSS, losses

STAGED = replace(RULES, loss=LOSS, mirror=100)


def loop_of(world, folder, rules=None, **more):
    return Rollout(
        world,
        world.name,
        rules,
        log=DecisionLog(folder / NAME),
        ledger=folder / "ledger.jsonl",
        on_event=lambda text: None,
        clock=world.clock,
        **more,
    )


def play(world, folder, steps=300, **more):
    loop = loop_of(world, folder, **more)
    for _ in range(steps):
        world.pass_time()
        if loop.step().state.phase not in states.UNDER_WAY:
            break
    return world.state()


def lines(folder):
    return [line["entry"] for line in ledger.read(folder / "ledger.jsonl")]


@pytest.mark.parametrize("rates", [GOOD, BAD])
def test_every_decision_replays_from_the_log_and_the_verdict_is_in_the_ledger(tmp_path, rates):
    world = World(rates).begin()
    state = play(world, tmp_path)
    chain = DecisionLog(tmp_path / NAME).chain(state.head)
    assert [e["seq"] for e in chain] == list(range(state.seq + 1))
    found = check(chain, state)
    assert found["actions"] == state.counts and found["head"] == state.head
    assert all(step.same for step in replay(chain))
    (entry,) = lines(tmp_path)
    assert entry["what"] == state.phase and entry["log"] == {"head": state.head, "seq": state.seq}
    assert entry["why"] == state.reason and entry["who"] == "release loop" and entry["spec"] == state.spec
    assert [e[1] for e in world.events if e[1] in ("Promoted", "RolledBack")] == [
        "Promoted" if state.phase == PROMOTED else "RolledBack"
    ]


def test_killed_anywhere_around_each_write_the_chain_is_whole(tmp_path):
    expected = play(World(GOOD, seed=3).begin(), tmp_path / "calm")
    world = World(GOOD, seed=3).begin()
    play_killed(world, lambda: loop_of(world, tmp_path))
    loop_of(world, tmp_path).step()  # the next controller settles what a kill left
    check_world(world)
    state = world.state()
    assert state.phase == expected.phase and state.evidence == expected.evidence
    log = DecisionLog(tmp_path / NAME)
    check(log.chain(state.head), state)
    assert len(log.path.read_text().splitlines()) > state.seq + 1  # with those of the killed attempts
    assert [e["what"] for e in lines(tmp_path)] == [PROMOTED]


def test_the_entry_is_there_before_the_write(tmp_path):
    world = World(GOOD).begin()
    world.pass_time()
    world.write = lambda obj: (_ for _ in ()).throw(Killed())
    with pytest.raises(Killed):
        loop_of(world, tmp_path).step()
    assert len(DecisionLog(tmp_path / NAME).read()) == 2


def test_a_conflicting_attempt_is_on_no_chain(tmp_path):
    world = World(GOOD).begin()
    write = world.write

    def raced(obj):
        world.write = write
        raise Conflict("someone was faster")

    world.pass_time()
    world.write = raced
    loop_of(world, tmp_path).step()
    world.pass_time()
    loop_of(world, tmp_path).step()
    chain = DecisionLog(tmp_path / NAME).chain(world.state().head)
    assert [e["seq"] for e in chain] == [0, 1]
    check(chain, world.state())


def test_a_torn_line_is_on_no_chain_and_the_next_entry_is_whole(tmp_path):
    world = World(GOOD).begin()
    world.pass_time()
    loop_of(world, tmp_path).step()
    with (tmp_path / NAME).open("ab") as stream:
        stream.write(b'{"head":"abc","seq":7')
    world.pass_time()
    loop_of(world, tmp_path).step()
    check(DecisionLog(tmp_path / NAME).chain(world.state().head), world.state())


@pytest.mark.parametrize("field", ["reason", "action", "weights", "observation", "at"])
def test_a_changed_entry_is_named(tmp_path, field):
    world = World(BAD).begin()
    state = play(world, tmp_path)
    path = tmp_path / NAME
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    entries[3][field] = {"now": 5} if field == "observation" else "something else"
    path.write_text("".join(json.dumps(e) + "\n" for e in entries))
    with pytest.raises(SeawayError, match="entry 3 was changed"):
        DecisionLog(path).chain(state.head)
    with pytest.raises(SeawayError, match="entry 3 was changed"):
        check(entries)


def test_missing_and_reordered_entries_are_named(tmp_path):
    state = play(World(BAD).begin(), tmp_path)
    log = DecisionLog(tmp_path / NAME)
    chain = log.chain(state.head)
    with pytest.raises(SeawayError, match="entry 4 does not follow entry 2"):
        check([*chain[:3], *chain[4:]])
    log.path.write_text("".join(line for i, line in enumerate(log.path.open()) if i != 3))
    with pytest.raises(SeawayError, match="before entry 4"):
        log.chain(state.head)
    with pytest.raises(SeawayError, match="entry 0"):
        check([])


def test_a_decision_that_its_observation_does_not_lead_to_is_named(tmp_path):
    """Someone who forges a promotion has to seal it like an entry; the replay finds it."""
    from serving.rollout.decisions import _sealed

    state = play(World(GOOD).begin(), tmp_path, steps=5)
    *chain, last = DecisionLog(tmp_path / NAME).chain(state.head)
    forged = {k: v for k, v in last.items() if k != "head"}
    forged |= {"action": "promote", "weights": {"v2": 100}, "phase": "promoted"}
    with pytest.raises(SeawayError, match=f"entry {state.seq} says promote"):
        check([*chain, _sealed(forged)])


def test_an_object_whose_state_was_edited_is_found(tmp_path):
    state = play(World(GOOD).begin(), tmp_path, steps=5)
    chain = DecisionLog(tmp_path / NAME).chain(state.head)
    with pytest.raises(SeawayError, match="does not lead to the state in the object"):
        check(chain, replace(state, phase=PROMOTED))


def test_changed_rules_are_in_the_chain(tmp_path):
    world = World(GOOD).begin()
    play(world, tmp_path, steps=5)
    rules = replace(RULES, cap=1000.0)
    obj = states.annotated(world.read("shop"), {states.RULES: json.dumps(rules.record())})
    world.write(obj)
    state = play(world, tmp_path, steps=6)
    assert state.rules == rules.digest and state.counts["start anew"] == 1
    steps = replay(DecisionLog(tmp_path / NAME).chain(state.head))
    assert all(s.same for s in steps) and steps[0].rules == RULES and steps[-1].rules == rules


def test_both_stages_are_settled_once_also_by_the_next_controller(tmp_path):
    world = World(GOOD).begin(rules=STAGED)
    read = {"loss": losses(10, -0.01)}
    loop = loop_of(world, tmp_path, pairs=lambda state: read)
    for _ in range(200):
        world.pass_time()
        if loop.step().state.phase == PROVISIONAL:
            break
    assert world.weights() == {"v1": 5, "v2": 95} and [e["what"] for e in lines(tmp_path)] == [PROVISIONAL]
    for _ in range(4):  # other controllers
        world.pass_time()
        loop_of(world, tmp_path, pairs=lambda state: read).step()
    assert len(lines(tmp_path)) == 1
    read["loss"] = losses(5000, -0.01)
    world.pass_time()
    assert loop_of(world, tmp_path, pairs=lambda state: read).step().action == "confirm"
    for _ in range(3):
        loop_of(world, tmp_path).step()
    assert [e["what"] for e in lines(tmp_path)] == [PROVISIONAL, PROMOTED]
    assert [e["action"] for e in lines(tmp_path)] == ["promote provisionally", "confirm"]
    state = world.state()
    check(DecisionLog(tmp_path / NAME).chain(state.head), state)
    entry = lines(tmp_path)[0]
    provisional = DecisionLog(tmp_path / NAME).chain(entry["log"]["head"])
    assert provisional[-1]["action"] == "promote provisionally"


def test_a_damaged_ledger_does_not_stop_a_rollback(tmp_path):
    (tmp_path / "ledger.jsonl").write_text("not a ledger\n")
    world, said = World(BAD).begin(), []
    loop = loop_of(world, tmp_path)
    loop.on_event = said.append
    for _ in range(100):
        world.pass_time()
        if loop.step().state.phase != RUNNING:
            break
    assert world.state().phase == ROLLED_BACK and any("ledger cannot be written" in text for text in said)
    (tmp_path / "ledger.jsonl").unlink()
    loop.step()
    assert [e["what"] for e in lines(tmp_path)] == [ROLLED_BACK]


def test_a_full_disk_keeps_no_harmful_canary_up_and_promotes_nothing(tmp_path):
    for rates, phase in ((BAD, ROLLED_BACK), (GOOD, RUNNING)):
        world = World(rates).begin()
        loop = Rollout(world, "shop", log=DecisionLog(tmp_path / rates_name(rates) / NAME), on_event=lambda text: None)
        loop.clock = world.clock
        state = None
        for i in range(120):
            world.pass_time()
            if i == 8:
                loop.log.path = tmp_path  # a folder cannot be appended to
            try:
                state = loop.step().state
            except OSError:
                continue
            if state.phase != RUNNING:
                break
        assert world.state().phase == phase


def rates_name(rates):
    return "bad" if rates is BAD else "good"


def test_a_hold_without_anything_new_is_not_written_for_half_the_longest_block(tmp_path):
    world = World(GOOD).begin()
    play(world, tmp_path, steps=4)
    loop = loop_of(world, tmp_path)
    writes, start = len(world.writes), world.now
    entries = len(DecisionLog(tmp_path / NAME).read())
    while world.now - start < SKIP_S - 2:
        world.pass_time(rate=0)
        assert loop.step().action == "hold"
    assert len(world.writes) == writes and len(DecisionLog(tmp_path / NAME).read()) == entries
    observed = world.state().observed
    for _ in range(4):
        world.pass_time(rate=0)
        loop.step()
    assert len(world.writes) == writes + 1
    assert world.state().observed - observed == pytest.approx(SKIP_S, abs=1)  # the time that was skipped counts
    world.pass_time()
    loop.step()
    assert len(world.writes) == writes + 2


def test_the_rules_in_the_object_suffice_and_their_absence_is_said():
    world = World(GOOD).begin()
    loop = Rollout(world, "shop", on_event=lambda text: None, clock=world.clock)
    world.pass_time()
    assert loop.step().state.rules == RULES.digest
    for text in (None, "{}", "[", '{"ramp": 7}'):
        world.write(states.annotated(world.read("shop"), {states.RULES: text}))
        with pytest.raises(SeawayError, match=r"seaway.dev/rules of 'shop'"):
            loop.step()
    assert Rules.from_record(RULES.record()) == RULES


def test_an_abort_needs_no_rules(tmp_path):
    world = World(GOOD).begin()
    play(world, tmp_path, steps=3)
    world.write(states.annotated(world.read("shop"), {states.RULES: "[]", states.ABORT: "the rules are gone"}))
    state = play(world, tmp_path, steps=1)
    assert state.phase == ROLLED_BACK and world.weights() == {"v1": 100}
    check(DecisionLog(tmp_path / NAME).chain(state.head), state)
    assert [e["who"] for e in lines(tmp_path)] == ["a person"]


def test_the_artifact_is_asked_for_only_when_something_depends_on_it(tmp_path):
    world, asked = World(GOOD).begin(), []

    def changed(obj, state):
        asked.append(state.seq)
        return "model.onnx was changed"

    loop = loop_of(world, tmp_path, artifact=changed)
    for _ in range(400):
        world.pass_time()
        if loop.step().state.phase != RUNNING:
            break
    state = world.state()
    assert state.phase == ROLLED_BACK and "model.onnx was changed" in state.reason and asked[0] > 10
    check(DecisionLog(tmp_path / NAME).chain(state.head), state)
    broken = World(GOOD).begin()
    loop = loop_of(broken, tmp_path / "broken", artifact=lambda obj, state: (_ for _ in ()).throw(OSError("no disk")))
    for _ in range(120):
        broken.pass_time()
        loop.step()
    assert broken.state().phase == RUNNING and "no disk" in broken.state().reason


def test_a_verdict_removes_the_shadow_and_a_ramp_keeps_it():
    world = World(GOOD)
    world.begin(shadow=True)
    world.rates["v2-shadow"] = GOOD["v2"]
    assert manifests.shadow(world.read("shop")) == "v2-shadow"
    loop = Rollout(world, "shop", on_event=lambda text: None, clock=world.clock)
    shadows = set()
    for _ in range(300):
        world.pass_time()
        phase = loop.step().state.phase
        shadows.add((phase, manifests.shadow(world.read("shop"))))
        if phase != RUNNING:
            break
    assert shadows == {(RUNNING, "v2-shadow"), (PROMOTED, None)}
    capped = World(GOOD)
    capped.begin(shadow=True, rules=replace(RULES, cap=20.0, alpha_promote=1e-12))
    loop = Rollout(capped, "shop", on_event=lambda text: None, clock=capped.clock)
    for _ in range(40):
        capped.pass_time()
        loop.step()
    assert capped.state().phase == "held" and manifests.shadow(capped.read("shop")) is None
    assert sum(capped.weights().values()) == 100 and set(capped.weights()) == {"v1", "v2"}


def test_a_rollback_is_written_in_the_step_that_shows_it(tmp_path):
    world = World({"v1": GOOD["v1"], "v2": (0.5, 0.0, 0.0)}).begin()
    loop, acted = loop_of(world, tmp_path), None
    for _ in range(50):
        world.pass_time()
        decision = loop.step()
        if decision.action == "roll back":
            acted = world.now
            assert decision.state.now == acted and world.weights() == {"v1": 100}
            break
    assert acted
