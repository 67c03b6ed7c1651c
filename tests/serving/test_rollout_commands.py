"""What people see and do beside a release: status, watch, promote, history, explain, verify, label."""

from __future__ import annotations

import io
import json
import math
import time
from dataclasses import replace

import pytest
from rich.console import Console

from seaway.artifacts import canonical_json
from seaway.config import load
from seaway.errors import SeawayError
from seaway.evidence import means
from seaway.evidence.means import Bound
from serving.rollout import commands
from serving.rollout import state as states
from serving.rollout.decisions import NAME, DecisionLog
from serving.rollout.explain import explained, ledger_line
from serving.rollout.loop import Rollout
from serving.rollout.replay import replay
from serving.rollout.rules import LossRules, Rules
from serving.rollout.state import PROMOTED, PROVISIONAL, ROLLED_BACK, RUNNING
from serving.rollout.verify import said, verify
from serving.rollout.view import bar, board, clock, line, number
from serving.rollout.watch import watch
from tests.serving.rollout_world import RULES, World

GOOD = {"v1": (0.001, 0.01, 0.01), "v2": (0.001, 0.01, 0.01)}
BAD = {"v1": (0.001, 0.01, 0.01), "v2": (0.03, 0.01, 0.01)}
LOSS = LossRules(Bound(0.05, 0.0), "log", 0.01, 1.0, holdback=5, wait=600.0)


@pytest.fixture
def config(tmp_path):
    return load(overrides={"home": str(tmp_path)})


def begun(config, rates=GOOD, rules=RULES):
    return World(rates, name=config.workload.name).begin(rules=rules)


def play(world, config, steps=300, **more):
    folder = config.home / "releases" / "shop-2"
    loop = Rollout(
        world, world.name, log=DecisionLog(folder / NAME), ledger=config.home / "ledger.jsonl",
        on_event=lambda text: None, clock=world.clock, **more,
    )  # fmt: skip
    for _ in range(steps):
        world.pass_time()
        if loop.step().state.phase not in states.UNDER_WAY:
            break
    return world.state()


def drawn(status, width=110):
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(board(status, width))
    return console.file.getvalue()


def test_status_draws_weights_evidence_and_the_split(config):
    world = begun(config)
    assert commands.status(config, World(GOOD)) == {"release": None, "phase": "no release yet"}
    assert "no release yet" in drawn(commands.status(config, World(GOOD)))
    play(world, config, steps=12)
    found = commands.status(config, world)
    assert json.loads(json.dumps(found)) == found
    assert 0 < found["left_s"] < 240 and found["requests"]["stable"] > found["requests"]["canary"] > 0
    text = drawn(found)
    for words in (
        "shop-2",
        "running",
        "v2 against v1",
        "canary",
        "slow answers",
        "roll back",
        "split: E",
        "of the time",
    ):
        assert words in text, text
    assert max(len(row) for row in drawn(found, 80).splitlines()) <= 80
    assert all(len(row.strip()) > 8 for row in drawn(found, 80).splitlines() if row.strip()), "a cell was wrapped"
    assert "least proven" in line(found) and "\n" not in line(found)


def test_every_guardrail_is_shown_also_before_it_has_data(config):
    rules = replace(RULES, pairs={"flips": Bound(0.1, 0.02, 0.0, 1.0)}, loss=LOSS, mirror=100)
    found = commands.status(config, begun(config, rules=rules))
    assert [row["guardrail"] for row in found["evidence"]] == [*RULES.rails, "flips", "loss"]
    assert all(row["log_e_promote"] == 0 for row in found["evidence"])
    assert found["evidence"][-1]["rollback_at"] == pytest.approx(math.log(6 / 0.05))
    assert "loss, by labels" in drawn(found) and "promotion is provisional until they confirm" in drawn(found)


def test_a_bar_is_on_a_log_scale_with_the_threshold_where_it_belongs():
    limit = math.log(10)
    at = [bar(value, limit, "green", 51).plain for value in (0.0, limit, math.log(100), -math.inf, math.inf)]
    one, ten = at[0].index("│"), at[0].index("┃")
    assert (one, ten) == (20, 30)  # 0.01 to 1,000: ten characters a power
    assert at[1].index("╂") == ten and at[1].count("━") == 9
    assert at[2].rindex("━") == 40 and at[3].startswith("━") and at[4].endswith("━")
    assert [number(v) for v in (0.0, math.log(20), 800.0, -50.0)] == ["1", "20", "2.7e347", "1.9e-22"]
    assert [clock(s) for s in (9, 171, 7_500, 200_000)] == ["9 s", "2 min 51 s", "2 h 5 min", "2 d 7 h"]


def test_watch_prints_what_changes_until_the_verdict(config):
    world, out = begun(config), Console(file=io.StringIO(), width=200)
    rounds = []

    def sleep(_):
        rounds.append(1)
        play(world, config, steps=1)

    def read():
        if len(rounds) == 5:
            raise SeawayError("the API server is away")
        return commands.status(config, world)

    assert watch(read, out, sleep=sleep) == PROMOTED
    lines = out.file.getvalue().splitlines()
    assert "cannot be read now: the API server is away" in lines
    assert "shop-2 promoted: v2 100 %" in lines[-1] and "no guardrail is worse" in lines[-1]
    assert 4 < len(lines) < 20 < len(rounds)
    with pytest.raises(SeawayError, match="no release to watch"):
        watch(lambda: commands.status(config, World(GOOD)), out)


def test_watch_redraws_one_screen_on_a_terminal(config):
    world, out = begun(config), Console(file=io.StringIO(), width=100, height=40, force_terminal=True)
    assert watch(lambda: commands.status(config, world), out, sleep=lambda _: play(world, config, 20)) == PROMOTED
    assert "\x1b[" in out.file.getvalue() and "fewer positives" in out.file.getvalue()


def test_asking_to_promote_skips_the_ramp_but_not_the_proof(config):
    slow = replace(RULES, ramp=(10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20))
    bad = begun(config, BAD, slow)
    play(bad, config, steps=4)
    said = commands.promote(config, bad)
    assert "Nobody promotes without proof" in said and "errors: E promote" in said and "times too little" in said
    assert play(bad, config).phase == ROLLED_BACK

    good = begun(config, dict.fromkeys(("v1", "v2"), (0.001, 0.001, 0.001)), slow)
    asked = load(overrides={"home": str(config.home / "b")})
    play(good, asked, steps=4)
    commands.promote(asked, good)
    state = play(good, asked)
    assert state.phase == PROMOTED and "skipped the rest of the ramp" in state.reason
    assert state.step < len(slow.ramp) - 1
    with pytest.raises(SeawayError, match="no release is under way; shop-2 was promoted"):
        commands.promote(asked, good)


def test_freeze_and_abort_say_who(config, monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "eva")
    world = begun(config)
    play(world, config, steps=3)
    commands.freeze(config, True, world)
    assert commands.status(config, world)["frozen"] == "eva" and "frozen by eva" in drawn(
        commands.status(config, world)
    )
    commands.abort(config, "the night shift says no", world)
    assert play(world, config, steps=2).reason.endswith("the night shift says no (eva)")
    assert "the night shift says no (eva)" in ledger_line(commands.history(config)[0])


def test_explain_tells_what_was_decided_and_what_was_lacking(config):
    world = begun(config)
    with pytest.raises(SeawayError, match="neither under way nor in the ledger"):
        commands.explain(config, "another", world)
    play(world, config, steps=8)
    halfway = "\n".join(commands.explain(config, None, world))
    assert "times too little; like the first" in halfway and "more requests to the canary" in halfway
    play(world, config)
    text = "\n".join(commands.explain(config, None, world))
    for words in ("v2 against v1, promoted", "ramp: no sign of harm", "-> v1 75 %, v2 25 %", "held ", "promote: no",
                  "shown to be no worse by its margin", "each came out the same"):  # fmt: skip
        assert words in text, text
    assert len(text.splitlines()) < 40  # holds are grouped
    gone = World(GOOD, name=config.workload.name)  # the object is no more: the ledger knows the log's head
    assert "\n".join(commands.explain(config, "shop-2", gone)) == text


def test_explain_says_when_the_replay_disagrees(config):
    world = begun(config)
    state = play(world, config, steps=9)
    steps = replay(commands.decision_log(config, "shop-2").chain(state.head))
    other = replace(steps[4], same=False, decision=replace(steps[4].decision, action="ramp"))
    text = "\n".join(explained([*steps[:4], other, *steps[5:]], commands.evidence(state, RULES)))
    assert "Replayed 9 decisions" in text and "1 came out differently, the first is entry 5" in text
    assert "(stored hold, replayed ramp)" in text


def test_verify_decides_everything_again_and_names_what_was_changed(config):
    world = begun(config)
    state = play(world, config)
    found = verify(config, world)
    assert not found.problem and found.lines == 1 and found.decisions == state.seq
    assert found.actions["promote"] == 1 and "all the same" in said(found)
    log = config.home / "releases" / "shop-2" / NAME
    whole, lines = log.read_bytes(), log.read_text().splitlines()

    log.write_text(log.read_text().replace('"action":"hold"', '"action":"ramp"', 1))
    assert "was changed: its hash does not fit" in verify(config, world).problem
    log.write_text("\n".join(lines[:5] + lines[6:]) + "\n")
    assert "ledger line 1 (shop-2 promoted)" in verify(config, world).problem and "is missing" in said(
        verify(config, world)
    )
    log.unlink()
    assert "is missing" in verify(config, world).problem
    log.write_bytes(whole)
    assert not verify(config, world).problem

    other = replace(state, observed=state.observed + 1)
    world.write(states.store(world.read(world.name), other))
    assert "the release in the object (shop-2 promoted)" in verify(config, world).problem


def test_a_release_by_configured_rules_verifies_by_the_rules_of_its_record(config):
    """A record is sorted by letters, a configuration is not: words and decisions must not depend on it."""
    backwards = replace(Rules.of(config.release), ramp=(50,))
    assert list(backwards.rails) == list(Rules.from_record(json.loads(canonical_json(backwards.record()))).rails)
    world = begun(config, rules=backwards)
    play(world, config, rules=backwards)
    assert not verify(config, world).problem


def test_a_release_that_began_anew_by_other_rules_verifies(config):
    rules = Rules.of(config.release)
    world = begun(config, rules=replace(rules, ramp=(40,)))
    play(world, config, steps=3)
    other = canonical_json(replace(rules, ramp=(50,)).record())
    world.write(states.annotated(world.read(world.name), {states.RULES: other}))
    state = play(world, config)
    assert state.counts["start anew"] == 1
    assert len(state.evidence) > 1
    assert not verify(config, world).problem


def test_verify_sees_a_ledger_line_that_its_log_does_not_lead_to(config):
    from seaway import ledger

    world = begun(config, BAD)
    play(world, config)
    path = config.home / "ledger.jsonl"
    entry = ledger.read(path)[0]["entry"]
    path.unlink()
    ledger.append(path, {**entry, "what": "promoted"})  # a well-formed chain, with a false verdict
    assert (
        "its phase is not what its decision log leads to: promoted against rolled back" in verify(config, world).problem
    )


def test_a_two_stage_release_is_told_in_both_stages(config):
    rules = replace(RULES, loss=LOSS, mirror=100)
    world = begun(config, rules=rules)
    losses = {"loss": means.new_state()}
    while play(world, config, steps=1, pairs=lambda state: dict(losses)).phase == RUNNING:
        pass
    found = commands.status(config, world)
    assert found["phase"] == PROVISIONAL and found["weights"] == {"v1": 5, "v2": 95} and 500 < found["left_s"] <= 600
    assert "past the ramp and waits for its labels" in commands.promote(config, world)
    losses["loss"] = means.update(means.new_state(), LOSS.bound, [-0.01] * 2000)
    assert play(world, config, steps=3, pairs=lambda state: dict(losses)).phase == PROMOTED
    text = "\n".join(commands.explain(config, None, world))
    assert "promote provisionally:" in text and "confirm: the labels confirm it" in text
    assert "2,000 labelled pairs; mean -0.0100" in text
    assert [line["entry"]["what"] for line in commands.history(config)] == ["provisional", "promoted"]
    found = verify(config, world)
    assert found.lines == 2 and not found.problem and found.decisions == world.state().seq


def test_labels_from_a_file_are_signed_or_none_is_taken(config, tmp_path):
    from serving.signals.labels import feed_of, read_key, sign

    file = tmp_path / "known.csv"
    file.write_text("id,label,time\na,1,2026-11-22T10:00:00\nb,0,1700000000\nc,1,\n")
    assert commands.label(config, str(file)).startswith("3 labels signed")
    folder, key = feed_of(config)
    told = [json.loads(text) for text in (folder / "labels.jsonl").read_text().splitlines()]
    assert told == [sign(read_key(key), e["id"], e["label"], e["time"]) for e in told]
    assert [(e["id"], e["label"]) for e in told] == [("a", 1), ("b", 0), ("c", 1)]
    assert [e["time"] for e in told[:2]] == [1795341600.0, 1700000000.0] and abs(told[2]["time"] - time.time()) < 60
    for text, problem in (
        ("id,label\na,maybe\n", "line 2: label 'maybe' is neither 0 nor 1"),
        ("id,label\na,1\n,0\n", "line 3: the id is empty"),
        ("id,label,time\na,1,yesterday\n", "time 'yesterday' is neither"),
        ("id,label,time\na,1,nan\n", "time 'nan' is neither"),
        ("row,label\na,1\n", "it must name id, label"),
        ("id,label\n", "has no labels"),
    ):
        file.write_text(text)
        with pytest.raises(SeawayError, match=problem):
            commands.label(config, str(file))
    assert len((folder / "labels.jsonl").read_text().splitlines()) == 3
    with pytest.raises(SeawayError, match=r"nowhere\.csv cannot be read"):
        commands.label(config, str(tmp_path / "nowhere.csv"))
