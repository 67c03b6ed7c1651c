"""Pairs from prediction logs: the right versions, each request once, the same after a restart, at little cost."""

from __future__ import annotations

import json
import os
import random
import time

import numpy as np
import pytest

from seaway.errors import SeawayError
from seaway.evidence import means
from seaway.evidence.losses import loss
from seaway.evidence.means import Bound
from serving.rollout.rules import LossRules, Rules
from serving.signals.labels import LabelFeed, tell
from serving.signals.pairs import APART, PairFeed

KEY, T = b"k" * 32, 1_700_000_000.0
SHIFT, LOSS = Bound(0.2, 0.1, 0.0, 1.0), Bound(0.05, 0.0, -1.0, 1.0)
RULES = Rules(
    ramp=(10,),
    cap=60,
    alpha_promote=0.05,
    alpha_rollback=0.05,
    rails={},
    pairs={"flips": Bound(0.1, 0.05, 0.0, 1.0), "score_shift": SHIFT},
    loss=LossRules(LOSS, "log", 0.01, 3.0, holdback=5, wait=60.0),
)


def line(identity, score, version, t=T, decision=None):
    decision = int(score >= 0.5) if decision is None else decision
    return json.dumps({"id": identity, "t": t, "p": score, "d": decision, "v": version}).encode() + b"\n"


def put(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as stream:
        stream.writelines(lines)


def feed(folder, rules=RULES, since=T - 100, now=T + 1e6):
    labels = LabelFeed(folder / "labels", KEY, clock=lambda: now)
    return PairFeed(folder / "answers", labels, rules, stable="1", canary="2", since=since)


def test_the_values_are_those_of_the_pairs(tmp_path):
    put(tmp_path / "answers" / "v1-h-1.jsonl", line("a", 0.4, "1"), line("b", 0.9, "1"), line("c", 0.1, "1"))
    put(tmp_path / "answers" / "v2-shadow-h-1.jsonl", line("b", 0.8, "2"), line("a", 0.7, "2"), line("d", 0.7, "2"))
    tell(tmp_path / "labels", KEY, [("a", 1, T + 5), ("c", 1, T + 5), ("d", 1, T + 5), ("never sent", 0, T)])
    found = feed(tmp_path).read()
    assert found["problem"] == "" and set(found) == {"flips", "score_shift", "loss", "problem"}
    assert (found["flips"]["n"], found["flips"]["sum"]) == (2, 1.0)
    assert found["score_shift"]["sum"] == pytest.approx(0.4, abs=1e-6)
    wanted = loss("log", 0.7, 1, 0.01, 3.0) - loss("log", 0.4, 1, 0.01, 3.0)  # b has no label yet: no loss
    assert found["loss"]["n"] == 1 and found["loss"]["sum"] == pytest.approx(float(wanted), abs=1e-6)
    assert wanted < 0  # negative where the canary was better


def test_no_label_yet_is_not_a_negative_and_counts_when_it_comes(tmp_path):
    put(tmp_path / "answers" / "s.jsonl", *[line(f"{i}", 0.2, "1") for i in range(10)])
    put(tmp_path / "answers" / "c.jsonl", *[line(f"{i}", 0.9, "2") for i in range(10)])
    reader = feed(tmp_path)
    assert reader.read()["loss"] == means.new_state()
    tell(tmp_path / "labels", KEY, [("3", 1, T)])
    assert reader.read()["loss"]["n"] == 1
    tell(tmp_path / "labels", KEY, [("3", 1, T + 1), ("4", 0, T)])
    found = reader.read()
    assert found["loss"]["n"] == 2 and found["flips"]["n"] == 10


@pytest.mark.parametrize(
    ("stable", "canary", "pairs"),
    [
        (line("a", 0.4, "1"), line("a", 0.4, "2"), 1),
        (line("a", 0.4, "1"), line("a", 0.4, "3"), 0),  # another release's version
        (line("a", 0.4, "1"), line("a", 0.4, "1"), 0),
        (line("a", 0.4, "2"), line("a", 0.4, "2"), 0),  # answered by the canary, mirrored to its shadow
        (line("a", 0.4, "1"), line("b", 0.4, "2"), 0),
        (line("a", 0.4, "1", T - 101), line("a", 0.4, "2", T - 101), 0),  # before the release
        (line("a", 0.4, "1", T - 101), line("a", 0.4, "2", T - 99), 0),
        (line("a", 0.4, "1", T - 100), line("a", 0.4, "2", T - 99), 1),
        (line("a", 0.4, "1"), line("a", 0.4, "2", T + APART + 1), 0),  # the id came again later
        (line("a", 1.4, "1"), line("a", 0.4, "2"), 0),
        (line("a", 0.4, "1"), line("a", float("nan"), "2"), 0),
        (line("a", 0.4, "1"), line("a", 0.4, "2", decision=2), 0),
        (line("a", 0.4, "1"), line("a", 0.4, "2", t=10**400), 0),
        (line("a", 0.4, "1"), line(["a"], 0.4, "2"), 0),
        (line("a", 0.4, "1"), line("a", 0.4, ["2"]), 0),
        (line("a", 0.4, "1"), b"[" * 50_000 + b"\n", 0),
        (line("a", 0.4, "1"), b"\xff\xfe\n[]\nnull\n", 0),
    ],
)
def test_only_one_request_scored_by_both_versions_is_a_pair(tmp_path, stable, canary, pairs):
    put(tmp_path / "answers" / "s.jsonl", stable, line("ok", 0.4, "1"))
    put(tmp_path / "answers" / "c.jsonl", canary, line("ok", 0.4, "2"))
    assert feed(tmp_path).read()["flips"]["n"] == pairs + 1


def test_an_id_counts_once_with_its_first_line_in_whatever_order_it_is_read(tmp_path):
    put(tmp_path / "answers" / "s.jsonl", line("a", 0.1, "1", T + 5))
    put(tmp_path / "answers" / "c.jsonl", line("a", 0.2, "2", T + 5), line("a", 0.9, "2", T + 6))
    reader = feed(tmp_path)
    assert reader.read()["score_shift"]["sum"] == pytest.approx(0.1)
    assert reader.read()["flips"]["n"] == 1
    put(tmp_path / "answers" / "c2.jsonl", line("a", 0.8, "2", T))  # an earlier one of a slower file
    for each in (reader, feed(tmp_path)):
        found = each.read()
        assert found["score_shift"]["sum"] == pytest.approx(0.7) and found["score_shift"]["n"] == 1


def test_a_torn_last_line_waits(tmp_path):
    whole = line("a", 0.4, "2")
    put(tmp_path / "answers" / "s.jsonl", line("a", 0.4, "1"))
    put(tmp_path / "answers" / "c.jsonl", whole[:20])
    reader = feed(tmp_path)
    assert reader.read()["flips"]["n"] == 0
    put(tmp_path / "answers" / "c.jsonl", whole[20:])
    assert reader.read()["flips"]["n"] == 1 and reader.said == ""


def same(one, other):
    for name in ("flips", "score_shift", "loss"):
        assert one[name]["n"] == other[name]["n"]
        assert np.allclose(means.log_e(one[name]), means.log_e(other[name]), rtol=0, atol=1e-9), name


@pytest.mark.parametrize("seed", range(12))
def test_read_bit_by_bit_or_all_at_once_it_is_the_same(tmp_path, seed):
    """Files that grow in odd pieces, torn lines, duplicates, labels in between; readers that start anew at any time."""
    draw = random.Random(seed)
    streams = {"s1": b"", "s2": b"", "c1": b"", "c2": b""}
    for i in range(400):
        identity = f"id-{draw.randrange(300)}"
        for arm in ("s", "c"):
            if draw.random() < 0.8:
                name = f"{arm}{draw.choice('12')}"
                version = {"s": "1", "c": "2"}[arm] if draw.random() < 0.95 else "9"
                streams[name] += line(identity, round(draw.random(), 3), version, T + i / 10 + draw.random())
    long = feed(tmp_path)
    while any(streams.values()):
        name = draw.choice([n for n, rest in streams.items() if rest])
        piece = draw.randrange(1, 3000)
        put(tmp_path / "answers" / f"{name}.jsonl", streams[name][:piece])
        streams[name] = streams[name][piece:]
        if draw.random() < 0.5:
            some = [(f"id-{draw.randrange(300)}", draw.randrange(2), T - draw.random()) for _ in range(20)]
            tell(tmp_path / "labels", KEY, some)
        if draw.random() < 0.4:
            found = long.read()
            if draw.random() < 0.3:
                same(found, feed(tmp_path).read())
    found, again = long.read(), feed(tmp_path).read()
    same(found, again)
    assert found["flips"]["n"] > 100 and found["loss"]["n"] > 5


def test_what_cannot_be_read_is_said_and_made_up_for(tmp_path, monkeypatch):
    put(tmp_path / "answers" / "c.jsonl", line("a", 0.4, "2"), line("b", 0.4, "2"))
    put(tmp_path / "answers" / "s.jsonl", line("a", 0.4, "1"))
    reader = feed(tmp_path)
    assert reader.read()["flips"]["n"] == 1
    from serving.signals import lines

    put(tmp_path / "answers" / "s.jsonl", line("b", 0.4, "1"))
    tell(tmp_path / "labels", KEY, [("b", 1, T)])

    def refuse(self, path, real=lines.Tail._new):
        if path.parent.name == "labels":  # after the answers were read
            raise PermissionError(f"not readable: {path}")
        yield from real(self, path)

    with monkeypatch.context() as patched:
        patched.setattr(lines.Tail, "_new", refuse)
        found = reader.read()
        assert "not readable" in found["problem"] and found["flips"]["n"] == 2 and found["loss"]["n"] == 0
    found = reader.read()
    assert found["problem"] == "" and found["flips"]["n"] == 2 and found["loss"]["n"] == 1
    same(found, feed(tmp_path).read())


def test_damaged_lines_are_named_and_refused_labels_too(tmp_path):
    put(tmp_path / "answers" / "c.jsonl", b"{\n", line("a", 0.4, "2"))
    put(tmp_path / "labels" / "l.jsonl", b'{"id": "a", "label": 1, "time": 1}\n')
    reader = feed(tmp_path)
    assert reader.read()["loss"]["n"] == 0
    assert "1 damaged lines in c.jsonl" in reader.said and "1 unsigned (first in l.jsonl)" in reader.said


def test_logs_of_earlier_releases_are_not_read(tmp_path):
    for name, age in (("old", APART + 1), ("new", APART - 1)):
        path = tmp_path / "answers" / f"{name}.jsonl"
        put(path, b"{\n")
        os.utime(path, (T - age, T - age))
    reader = feed(tmp_path, since=T)
    reader.read()
    assert reader.said == "1 damaged lines in new.jsonl"


def test_two_versions_of_one_name_are_refused(tmp_path):
    with pytest.raises(SeawayError, match="cannot be told apart"):
        PairFeed(tmp_path, None, RULES, stable="1", canary="1", since=0)


def test_only_what_the_rules_have_is_read(tmp_path):
    put(tmp_path / "s.jsonl", line("a", 0.1, "1"))
    rules = Rules((10,), 60, 0.05, 0.05, rails={}, pairs={"score_shift": SHIFT})
    reader = PairFeed(tmp_path, None, rules, stable="1", canary="2", since=0)
    assert set(reader.read()) == {"score_shift", "problem"}


def test_a_hundred_thousand_answers_and_labels_in_seconds_and_the_next_ones_at_once(tmp_path):
    n = 100_000
    scores = np.random.default_rng(0).random((2, n)).round(6)
    for arm, version in ((0, "1"), (1, "2")):
        lines = [line(f"request-{i}", scores[arm, i], version, T + i / 1000) for i in range(n)]
        put(tmp_path / "answers" / f"{version}.jsonl", *lines)
    tell(tmp_path / "labels", KEY, ((f"request-{i}", i % 2, T + i / 1000) for i in range(n)))
    reader = feed(tmp_path)
    start = time.process_time()
    found = reader.read()
    first = time.process_time() - start
    assert found["flips"]["n"] == found["loss"]["n"] == n
    assert first < 15, first
    put(tmp_path / "answers" / "1.jsonl", line("next", 0.4, "1"))
    put(tmp_path / "answers" / "2.jsonl", line("next", 0.4, "2"))
    start = time.process_time()
    assert reader.read()["flips"]["n"] == n + 1
    after = time.process_time() - start
    print(f"{first:.2f} s for {n} of each, then {after * 1e3:.1f} ms")
    assert after < 0.2
