"""Counters by source: cursors, resets, new pods, stale and future ones, and a bound on how many."""

import json
import math
import time
from dataclasses import replace

import pytest

from serving.rollout import state as states
from serving.rollout.policy import decide
from serving.signals.counters import MOST_SOURCES, advance
from serving.substrate.base import Counters
from tests.serving.rollout_world import RULES
from tests.serving.test_rollout_policy import begun, counters, see

NOW = 1000.0


def go(cursors, found, now=NOW, **more):
    return advance(cursors, found, 100, now=now, stale_s=45.0, **more)


def count(n, errors=0, at=None, **changes):
    return {**counters(n, errors), "at": at, **changes}


def test_the_first_reading_of_a_predictor_becomes_its_cursors():
    arm = go({}, {"a": count(500, 9), "b": count(7)})
    assert arm.gained == {} and arm.problems == ()
    assert arm.cursors["a"]["errors"] == [500, 9, 0] and set(arm.cursors) == {"a", "b"}


def test_a_pod_that_comes_later_started_at_zero_and_counts_whole():
    first = go({}, {"a": count(500, 9)})
    arm = go(first.cursors, {"a": count(510, 9), "b": count(30, 2)})
    assert arm.gained["errors"] == (40, 2) and arm.gained["decisions"] == (38, 0)
    assert go(arm.cursors, {"a": count(510, 9), "b": count(30, 2)}).gained["errors"] == (0, 0)


def test_a_pod_that_was_there_without_a_usable_count_brings_nothing_of_before():
    first = go({}, {"a": count(5), "b": count(float("nan")), "c": count(9, at=NOW - 300)})
    assert set(first.cursors) == {"a", "b", "c"} and len(first.problems) >= 2
    arm = go(first.cursors, {"a": count(6), "b": count(10**6), "c": count(10**6, at=NOW)})
    assert arm.gained["errors"] == (1, 0)
    assert go(arm.cursors, {"b": count(10**6 + 3), "c": count(10**6, at=NOW)}).gained["errors"] == (3, 0)


def test_a_pod_that_is_gone_is_no_problem_and_all_of_them_gone_is_one():
    first = go({}, {"a": count(5), "b": count(5)})
    arm = go(first.cursors, {"b": count(9)})
    assert arm.problems == () and arm.gained["errors"] == (4, 0) and "a" in arm.cursors
    for nothing in ({}, None, "down", 3):
        arm = go(first.cursors, nothing)
        assert arm.problems == ("no counters",) and arm.cursors == first.cursors and arm.gained == {}


@pytest.mark.parametrize(
    ("at", "word"), [(NOW - 46, "ago"), (NOW + 6, "future"), (math.nan, "no time"), ("noon", "no time")]
)
def test_stale_and_future_sources_are_left_out_and_said(at, word):
    first = go({}, {"a": count(5), "b": count(5)})
    arm = go(first.cursors, {"a": count(50, at=at), "b": count(9)})
    assert arm.gained["errors"] == (4, 0) and arm.cursors["a"] == first.cursors["a"]
    assert len(arm.problems) == 1 and word in arm.problems[0] and "a" in arm.problems[0]
    assert go(arm.cursors, {"a": count(50, at=NOW), "b": count(9)}).gained["errors"] == (45, 0)


def test_times_at_the_edges_are_used():
    first = go({}, {"a": count(5)})
    for at in (NOW - 45, NOW + 5, NOW):
        assert go(first.cursors, {"a": count(6, at=at)}).gained["errors"] == (1, 0)
    assert go(first.cursors, {"a": count(6, at=NOW - 30), "b": count(1)}).oldest == NOW - 30


def test_a_reset_is_believed_the_second_time_of_one_source_alone():
    arm = go({}, {"a": count(100, 1), "b": count(100)})
    once = go(arm.cursors, {"a": count(3), "b": count(110)})
    assert once.gained["errors"] == (10, 0) and once.cursors["a"]["errors"] == [100, 1, 1] and once.problems
    twice = go(once.cursors, {"a": count(5), "b": count(120)})
    assert twice.cursors["a"]["errors"] == [5, 0, 0] and twice.gained["errors"] == (10, 0)
    flicker = go(once.cursors, {"a": count(104, 1), "b": count(120)})
    assert flicker.gained["errors"] == (14, 0)


def test_more_outcomes_than_requests_are_carried_over_and_none_is_lost():
    """A canary that fails every request, read with its requests a little behind its outcomes."""
    arm = go({}, {"a": count(24, 23)})
    total = [0, 0]
    for n in range(31, 80, 7):
        arm = go(arm.cursors, {"a": count(n, n)})
        total = [a + b for a, b in zip(total, arm.gained["errors"], strict=True)]
        assert arm.gained["errors"][1] == 7 and "waiting for the rest" in arm.problems[0]
    arm = go(arm.cursors, {"a": count(n + 5, n + 4)})
    assert arm.problems == () and arm.gained["errors"] == (5, 5)
    assert [a + b for a, b in zip(total, (5, 5), strict=True)] == [n + 5 - 24, n + 4 - 23]


def test_what_a_source_does_not_count_is_no_problem_unless_nobody_counts_it():
    gateway = Counters(requests=50, errors=1, slow={100: 2}, decisions=None, answered=None)
    pod = Counters(requests=None, errors=None, slow=None, decisions=3, answered=49)
    first = go({}, {"gateway": gateway, "pod": pod})
    assert first.problems == () and set(first.cursors["gateway"]) == {"errors", "latency"}
    assert set(first.cursors["pod"]) == {"decisions"}
    state = decide(begun(), see(1001.0, vars(gateway), vars(gateway)), RULES)
    assert "no source counts decisions" in state.reason


def test_more_than_the_bound_forgets_the_gone_and_then_counts_no_newcomer_whole():
    first = go({}, {f"pod-{i}": count(10) for i in range(MOST_SOURCES)})
    arm = go(first.cursors, {"new": count(10), "pod-0": count(12)})
    assert len(arm.cursors) == MOST_SOURCES and arm.forgotten == 1
    assert arm.gained["errors"] == (2, 0)
    back = go(arm.cursors, {"pod-1": count(11), "pod-0": count(12)}, forgotten=arm.forgotten)
    assert back.gained["errors"] == (0, 0)  # it may be one that was forgotten: nothing counts twice
    full = go(first.cursors, {f"pod-{i}": count(11) for i in range(MOST_SOURCES)} | {"zzz": count(5)})
    assert full.gained["errors"] == (MOST_SOURCES, 0) and any("zzz is left out" in p for p in full.problems)
    assert len(full.cursors) == MOST_SOURCES


def test_64_sources_with_long_names_fit_into_the_annotation():
    state = begun()
    for i in range(30):
        found = {
            p: {f"{p}-{'x' * 60}-{pod:05d}": counters(10**9 + i * 1000, 10**6) for pod in range(MOST_SOURCES)}
            for p in ("v1", "v2")
        }
        decision = decide(state, see(1001.0 + i, {}, {}, counters=found, spec=f"s{i // 2}"), RULES)
        state = decision.state
    obj = states.store({"metadata": {"name": "x"}}, state)
    assert len(obj["metadata"]["annotations"][states.STATE]) < states.LIMIT
    assert sum(len(sources) for sources in json.loads(json.dumps(state.record()))["cursors"].values()) == 128


def test_a_decision_takes_less_than_a_millisecond_a_guardrail():
    state, spent = begun(), []
    for i in range(60):
        found = {p: {f"{p}-{pod}": counters(20 * (i + 1)) for pod in range(8)} for p in ("v1", "v2")}
        seen = see(1001.0 + i, {}, {}, counters=found, weights={"v1": 90, "v2": 10})
        start = time.process_time()
        state = decide(state, seen, replace(RULES, alpha_promote=1e-300)).state
        spent.append(time.process_time() - start)
    assert state.blocks == 60 and state.phase == states.RUNNING
    assert sorted(spent)[30] < 1e-3 * len(RULES.guardrails)
