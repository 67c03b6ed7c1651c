"""The policy is pure, total and never promotes without proof."""

import math
from dataclasses import replace

import pytest

from seaway.config import load
from seaway.evidence.rates import Rail
from serving.rollout import state as states
from serving.rollout.health import LOST_READY_S, NEVER_READY_S
from serving.rollout.policy import STEP_REQUESTS, decide
from serving.rollout.rules import Observation, Rules
from serving.rollout.state import HELD, PROMOTED, ROLLED_BACK, RUNNING
from serving.rollout.words import rows
from tests.serving.rollout_world import RULES

READY = {"v1": True, "v2": True}


def begun(**changes):
    return replace(states.begin("r", "v1", "v2", "spec", 1000.0, RULES.rails), **changes)


def counters(n, errors=0, slow=0, decisions=0):
    return {"requests": n, "errors": errors, "slow": {100: slow}, "answered": n - errors, "decisions": decisions}


def pod(n):
    return {"pod-1": counters(n)}


def see(t, stable, canary, **changes):
    found = {"v1": {"pod-1": stable}, "v2": {"pod-2": canary}}
    return Observation(**{"now": t, "spec": "spec", "counters": found, "ready": READY, **changes})


def clean(state, blocks, start=0, canary=(30, 0), stable=(30, 0), rules=RULES, **changes):
    """Feeds blocks of (requests, errors) for both arms until a verdict; the last decision."""
    decision = None
    for i in range(start, start + blocks):
        s, c = (counters(n * (i + 1), k * (i + 1)) for n, k in (stable, canary))
        decision = decide(state, see(1000.0 + i + 1, s, c, **changes), rules)
        state = decision.state
        if state.phase != RUNNING:
            break
    return decision


def test_ramps_then_promotes_a_clean_canary():
    state, actions, shares = begun(), [], []
    for i in range(60):
        decision = decide(state, see(1001.0 + i, counters(30 * (i + 1)), counters(30 * (i + 1))), RULES)
        state = decision.state
        actions.append(decision.action)
        if decision.weights:
            assert sum(decision.weights.values()) == 100
            shares.append(decision.weights.get("v2", 0))
        if state.phase != RUNNING:
            break
    assert shares == [25, 50, 100]
    assert actions[-1] == "promote" and state.phase == PROMOTED
    assert all(row["log_e_promote"] >= RULES.promote_at for row in rows(state))
    assert "canary 0 of" in decision.reason and "threshold 20" in decision.reason
    again = decide(state, see(2000.0, counters(1), counters(1)), RULES)
    assert (again.action, again.weights, again.state) == ("none", None, state)


def test_rolls_back_a_failing_canary_and_removes_it():
    decision = clean(begun(), 60, canary=(30, 2))
    assert decision.action == "roll back" and decision.weights == {"v1": 100}
    assert "errors is worse" in decision.reason
    assert max(row["log_e_rollback"] for row in rows(decision.state)) >= RULES.rollback_at


def test_same_observation_twice_changes_no_evidence():
    state = clean(begun(), 5).state
    seen = see(1010.0, counters(500), counters(200, 2))
    once = decide(state, seen, RULES).state
    twice = decide(once, seen, RULES).state
    assert twice.evidence == once.evidence and twice.cursors == once.cursors
    assert decide(state, seen, RULES) == decide(state, seen, RULES)


def test_first_reading_is_a_cursor_and_no_evidence():
    decision = decide(begun(), see(1001.0, counters(10**6, 10**5), counters(10**6, 10**6)), RULES)
    assert all(row["canary"]["n"] == 0 for row in rows(decision.state))


def test_the_ramp_waits_for_enough_requests_and_for_absence_of_harm():
    assert clean(begun(), 8, canary=(STEP_REQUESTS // 10, 0)).weights is None
    suspicious = clean(begun(), 12, canary=(6, 0))
    for failed in range(2, 9):
        seen = see(1020.0, counters(2000), counters(76, failed))
        state = decide(suspicious.state, seen, RULES).state
        worst = max(row["log_e_rollback"] for row in rows(state))
        if worst > RULES.rollback_at / 2 + 0.1:
            break
    assert RULES.rollback_at / 2 + 0.1 < worst < RULES.rollback_at
    later = decide(replace(state, step_requests=1000), see(1021.0, counters(2010), counters(77, failed)), RULES)
    assert later.action == "hold"


def proven():
    """One block short of a promotion."""
    state, i = begun(), 0
    while True:
        seen = see(1001.0 + i, counters(30 * (i + 1)), counters(30 * (i + 1)))
        decision = decide(state, seen, RULES)
        if decision.action == "promote":
            return state, seen
        state, i = decision.state, i + 1


@pytest.mark.parametrize(
    ("changes", "phases"),
    [
        ({"counters": {}}, {RUNNING}),
        ({"counters": {}, "problem": "the proxy does not answer"}, {RUNNING}),
        ({"counters": {"v1": pod(9999)}}, {RUNNING}),
        ({"counters": {"v1": pod(9999), "v2": {"pod-2": counters(float("nan"))}}}, {RUNNING}),
        ({"counters": {"v1": pod(9999), "v2": {"pod-2": counters(float("inf"))}}}, {RUNNING}),
        ({"counters": {"v1": pod(9999), "v2": {"pod-2": counters(-5)}}}, {RUNNING}),
        ({"counters": {"v1": pod(9999), "v2": {"pod-2": counters(3)}}}, {RUNNING}),
        ({"counters": {"v1": pod(9999), "v2": {"pod-2": "many"}}}, {RUNNING}),
        ({"ready": {"v1": True, "v2": False}}, {RUNNING}),
        ({"ready": {}}, {RUNNING}),
        ({"ready": {"v1": False, "v2": True}}, {RUNNING}),
        ({"frozen": True}, {RUNNING}),
        ({"abort": "I do not like it"}, {ROLLED_BACK}),
        ({"restarts": {"v2": 1}}, {ROLLED_BACK}),
        ({"restarts": {"v1": 1}}, {RUNNING}),
        ({"gone": "v2"}, {ROLLED_BACK}),
        ({"gone": "v1"}, {HELD}),
        ({"spec": "another"}, {RUNNING}),
        ({"now": 1_000_000.0, "counters": {}}, {RUNNING}),
    ],
)
def test_nothing_but_a_clean_look_promotes(changes, phases):
    state, seen = proven()
    state = replace(state, restarts={"v1": [0, 0], "v2": [0, 0]})
    assert decide(state, seen, RULES).action == "promote"
    decision = decide(state, replace(seen, **changes), RULES)
    assert decision.action != "promote"
    assert decision.state.phase in phases


def test_freeze_keeps_weights_whatever_the_evidence_and_abort_wins_over_freeze():
    state = clean(begun(), 3).state
    seen = see(1010.0, counters(300), counters(300, 200), frozen=True)
    frozen = decide(state, seen, RULES)
    assert frozen.action == "freeze" and frozen.weights is None and "frozen" in frozen.reason
    assert decide(frozen.state, replace(seen, frozen=False), RULES).action == "roll back"
    assert decide(state, replace(seen, abort="stop"), RULES).weights == {"v1": 100}


def test_a_changed_spec_starts_all_evidence_anew():
    state = clean(begun(), 6).state
    assert state.phase == RUNNING and rows(state)[0]["canary"]["n"] > 0
    decision = decide(state, replace(see(1020.0, counters(900), counters(900)), spec="new"), RULES)
    assert decision.action == "start anew" and decision.weights == {"v1": 90, "v2": 10}
    assert decision.state.spec == "new" and decision.state.cursors == {} and decision.state.observed == 0
    assert all(row["log_e_promote"] == 0 and row["canary"]["n"] == 0 for row in rows(decision.state))


def test_changed_margins_start_all_evidence_anew():
    state = clean(begun(), 6).state
    rules = replace(RULES, rails={**RULES.rails, "errors": Rail(0.5)})
    decision = decide(state, see(1020.0, counters(900), counters(900)), rules)
    assert decision.action == "start anew" and decision.state.evidence == begun().evidence


def test_a_canary_that_never_gets_ready_and_one_that_is_lost_are_rolled_back():
    for was_ready, limit in ((False, NEVER_READY_S), (True, LOST_READY_S)):
        state = begun(seen_ready=was_ready)
        for t in range(200):
            decision = decide(state, see(1001.0 + t, counters(t), counters(0), ready={"v1": True, "v2": False}), RULES)
            state = decision.state
            if state.phase != RUNNING:
                break
        assert state.phase == ROLLED_BACK and t == pytest.approx(limit, abs=2)


def test_a_canary_that_cannot_start_is_rolled_back_at_once():
    seen = see(1001.0, counters(1), counters(0), ready={"v1": True, "v2": False}, failed="its bundle is empty")
    decision = decide(begun(), seen, RULES)
    assert decision.action == "roll back" and "its bundle is empty" in decision.reason
    assert decide(begun(seen_ready=True), seen, RULES).action == "hold"
    assert decide(begun(), replace(seen, ready={"v1": False, "v2": False}), RULES).action == "hold"


def test_the_cap_never_promotes():
    rules = replace(RULES, cap=50.0)
    undecided = clean(begun(), 80, canary=(1, 0), stable=(20, 0), rules=rules)
    assert undecided.state.phase == HELD and undecided.weights is None and "cap" in undecided.reason
    no_data = clean(begun(), 80, canary=(0, 0), stable=(0, 0), rules=rules)
    assert no_data.state.phase == ROLLED_BACK
    state, seen = proven()
    assert decide(replace(state, observed=rules.cap), seen, rules).action != "promote"
    ended = clean(clean(begun(), 3).state, 1, start=3, ended=True)
    assert ended.state.phase == HELD


def test_time_without_a_controller_is_not_observed_time():
    state = clean(begun(), 5).state
    decision = decide(state, see(1005.0 + 86_400, counters(200), counters(200)), RULES)
    assert decision.state.phase == RUNNING and decision.state.observed < 100


def test_more_outcomes_than_requests_wait_for_the_next_reading():
    state = clean(begun(), 3).state
    early = decide(state, see(1010.0, counters(100), counters(95, 20)), RULES)  # 5 more requests, 20 more errors
    assert early.action == "hold" and "waiting for the rest" in early.reason
    late = decide(early.state, see(1011.0, counters(130), counters(120, 20)), RULES)
    assert next(r for r in rows(late.state) if r["guardrail"] == "errors")["canary"]["k"] == 20


def test_a_counter_reset_loses_a_look_and_nothing_else():
    state = clean(begun(), 5).state
    for n in (10, 20):  # a scrape that reads low once may be an accident; twice it is a reset
        state = decide(state, see(state.now + 1, counters(150 + n), counters(n)), RULES).state
    decision = decide(state, see(state.now + 1, counters(200), counters(50)), RULES)
    canary = next(r for r in rows(decision.state) if r["guardrail"] == "errors")["canary"]
    assert canary == {"n": 120 + 30, "k": 0}


def test_rules_come_from_the_configuration():
    rules = Rules.of(load().release)
    assert rules.promote_at == pytest.approx(math.log(1 / load().release.alpha_promote))
    assert rules.rollback_at == pytest.approx(math.log(len(rules.guardrails) / load().release.alpha_rollback))
    assert rules.rails["errors"].tolerance == 0 and rules.slo_ms is not None
    assert rules.guardrails == tuple(load().release.guardrails)
    assert rules.stale_s == 45 and Rules.of(load().release, "20s").stale_s == 60
