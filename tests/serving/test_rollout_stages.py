"""Two-stage promotion, pairs and labels, artifact, people and the checks around them: one test a rule."""

from dataclasses import replace

import numpy as np
import pytest

from seaway.evidence import means
from seaway.evidence.means import Bound
from serving.rollout.policy import LONGEST_BLOCK_S, SPLIT_AT, decide
from serving.rollout.rules import LossRules, Rules
from serving.rollout.state import HELD, PROMOTED, PROVISIONAL, ROLLED_BACK, RUNNING
from serving.rollout.words import rows, split_row
from tests.serving.rollout_world import RULES
from tests.serving.test_rollout_policy import begun, counters, proven, see

LOSS = LossRules(Bound(0.05, 0.0), "log", 0.01, 1.0, holdback=5, wait=600.0)
PAIRED = replace(RULES, pairs={"flips": Bound(0.1, 0.02, 0.0, 1.0)}, mirror=100)
STAGED = replace(RULES, loss=LOSS, mirror=100)


def losses(n, mean, bound=LOSS.bound, spread=0.1, seed=0):
    """A cumulative reading of n values around ``mean``."""
    draw = np.random.default_rng(seed)
    return means.update(means.new_state(), bound, np.clip(draw.normal(mean, spread, n), bound.low, bound.high))


def play(state, rules, blocks=60, start=0, n=30, **changes):
    """Clean blocks until an action that is no ramp or hold; changes may be functions of the block's number."""
    decision = None
    for i in range(start, start + blocks):
        extra = {k: v(i) if callable(v) else v for k, v in changes.items()}
        decision = decide(state, see(1001.0 + i, counters(n * (i + 1)), counters(n * (i + 1)), **extra), rules)
        state = decision.state
        if decision.action not in ("ramp", "hold"):
            break
    return decision


def provisional():
    decision = play(begun(), STAGED)
    assert decision.action == "promote provisionally"
    return decision


def after(state, rules, t=1.0, n=3000, **changes):
    """The next clean look at ``state``."""
    grown = state.cursors["v1"]["pod-1"]["errors"][0]
    asked = changes.pop("asked", {})
    seen = see(state.now + t, counters(grown + n), counters(grown + n), asked=asked, **changes)
    return decide(state, seen, rules)


def test_with_labels_the_fast_guardrails_only_promote_provisionally():
    decision = provisional()
    assert decision.weights == {"v1": 5, "v2": 95} and decision.state.phase == PROVISIONAL
    held = after(decision.state, STAGED, pairs={"loss": means.new_state()})
    assert held.action == "hold" and held.weights is None and held.state.phase == PROVISIONAL


def test_labels_confirm_or_roll_back():
    state = provisional().state
    good = after(state, STAGED, pairs={"loss": losses(4000, -0.01)})
    assert (good.action, good.weights, good.state.phase) == ("confirm", {"v2": 100}, PROMOTED)
    assert next(r for r in rows(good.state) if r["guardrail"] == "loss")["n"] == 4000
    bad = after(state, STAGED, pairs={"loss": losses(4000, 0.05)})
    assert (bad.action, bad.weights, bad.state.phase) == ("roll back", {"v1": 100}, ROLLED_BACK)
    assert "loss is worse" in bad.reason


def test_harm_by_labels_needs_no_provisional_promotion():
    assert play(begun(), STAGED, pairs={"loss": losses(4000, 0.05)}).action == "roll back"


def test_a_provisional_promotion_is_watched_by_all_guardrails_and_has_an_end():
    state = provisional().state
    grown = state.cursors["v1"]["pod-1"]["errors"][0]
    seen = see(state.now + 1, counters(grown + 100), counters(grown + 2000, 300), pairs={"loss": means.new_state()})
    assert decide(state, seen, STAGED).action == "roll back"
    waited = replace(state, observed=state.observed + LOSS.wait)
    decision = after(waited, STAGED, pairs={"loss": losses(50, 0.0)})
    assert decision.action == "roll back" and "labels have not confirmed" in decision.reason
    # the cap of the first stage is over long before, and does not count
    assert after(replace(state, observed=state.observed + 500), replace(STAGED, cap=1.0)).action != "give up"


def test_a_late_proof_after_the_wait_confirms_nothing():
    state = provisional().state
    waited = replace(state, observed=state.observed + LOSS.wait)
    assert after(waited, STAGED, pairs={"loss": losses(4000, -0.01)}).action == "roll back"


def test_pairs_are_needed_where_they_are_configured():
    assert play(begun(), PAIRED, pairs={"flips": means.new_state()}).action == "hold"
    missing = play(begun(), PAIRED)
    assert missing.action == "hold" and "flips: no reading" in missing.reason
    bound = PAIRED.pairs["flips"]
    same = play(begun(), PAIRED, pairs=lambda i: {"flips": losses(100 * i, 0.0, bound, 0.0)})
    assert same.action == "promote"
    flipped = play(begun(), PAIRED, pairs=lambda i: {"flips": losses(100 * i, 0.3, bound, 0.0)})
    assert flipped.action == "roll back" and "flips is worse" in flipped.reason


def _reading(**changes):
    return {**losses(4000, -0.01), **changes}


@pytest.mark.parametrize(
    "reading",
    [
        _reading(n=10),
        _reading(n=4000.5),
        _reading(n=True),
        _reading(n="many"),
        _reading(sum=float("nan")),
        _reading(sum=9e9),
        _reading(promote=[0.0]),
        _reading(promote=99.0),
        _reading(promote=[float("inf")] * 16),
        _reading(promote=["a"] * 16),
        {"n": 4000},
        "forged",
        7,
    ],
)
def test_a_reading_that_cannot_be_one_changes_nothing(reading):
    state = provisional().state
    state = after(state, STAGED, pairs={"loss": losses(100, -0.01)}).state
    decision = after(state, STAGED, pairs={"loss": reading})
    assert decision.action == "hold" and "loss: " in decision.reason
    assert decision.state.pairs == state.pairs


def test_the_same_reading_again_changes_nothing_and_n_is_the_cursor():
    state = provisional().state
    one = after(state, STAGED, pairs={"loss": losses(100, -0.01)}).state
    other = after(one, STAGED, pairs={"loss": losses(100, 0.9)}).state
    assert other.pairs == one.pairs


def test_a_new_spec_forgets_pairs_and_the_stage():
    state = after(provisional().state, STAGED, pairs={"loss": losses(100, -0.01)}).state
    assert state.phase == PROVISIONAL and state.pairs["loss"]["n"] == 100
    decision = decide(state, see(state.now + 1, counters(9999), counters(9999), spec="new"), STAGED)
    assert decision.action == "start anew" and decision.weights == {"v1": 90, "v2": 10}
    fresh = decision.state
    assert fresh.phase == RUNNING and fresh.pairs == {} and fresh.split == {} and fresh.crashes == {}
    assert fresh.provisional_since is None and fresh.started == decision.state.now


def test_another_object_of_the_same_name_starts_anew():
    state = play(begun(), RULES, blocks=4, uid="one").state
    assert state.uid == "one"
    assert after(state, RULES, uid="one").action != "start anew"
    assert after(state, RULES, uid="").action != "start anew"  # not seen is not changed
    decision = after(state, RULES, uid="two")
    assert decision.action == "start anew" and decision.state.uid == "two" and decision.state.cursors == {}


def test_an_untrusted_artifact_is_never_promoted():
    state, seen = proven()
    decision = decide(state, replace(seen, artifact="model.onnx was changed"), RULES)
    assert decision.action == "hold" and "model.onnx was changed" in decision.reason
    over = RULES.cap + RULES.stale_after
    late = decide(
        replace(state, observed=over, last_data=over), replace(seen, artifact="model.onnx was changed"), RULES
    )
    assert late.action == "roll back" and "with a problem" in late.reason
    staged = provisional().state
    confirmed = after(staged, STAGED, pairs={"loss": losses(4000, -0.01)}, artifact="unsigned")
    assert confirmed.action == "hold" and confirmed.state.phase == PROVISIONAL


def test_a_person_may_skip_the_ramp_and_nothing_else():
    assert play(begun(), RULES, blocks=4, promote="ann").action in ("hold", "ramp")
    state, seen = proven()
    early = replace(state, step=0, step_requests=0)
    assert decide(early, seen, RULES).action != "promote"
    decision = decide(early, replace(seen, promote="ann"), RULES)
    assert decision.action == "promote" and "ann skipped" in decision.reason
    assert decide(early, replace(seen, promote="ann", frozen=True), RULES).action == "freeze"
    assert decide(early, replace(seen, promote="ann", abort="no"), RULES).action == "roll back"


def test_weights_changed_by_hand_are_put_back_unless_frozen():
    state = play(begun(), RULES, blocks=3).state
    share = RULES.ramp[state.step]
    for asked in ({"v1": 20, "v2": 80}, {"v1": 50, "v2": 30, "v3": 20}, {"v2": 100}):
        decision = after(replace(state, step_requests=0), RULES, n=1, asked=asked)
        assert decision.action == "hold" and decision.weights == {"v1": 100 - share, "v2": share}
        assert "changed by hand" in decision.reason
    assert after(state, RULES, asked={"v1": 20, "v2": 80}, frozen=True).weights is None
    own = after(replace(state, step_requests=0), RULES, n=1, asked={"v1": 100 - share, "v2": share})
    assert own.weights is None


def crashing(stable, canary, rules=RULES, **changes):
    state = play(begun(), rules, blocks=3, restarts={"v1": 4, "v2": 7}).state
    return after(state, rules, restarts={"v1": 4 + stable, "v2": 7 + canary}, **changes)


def test_crashes_count_against_the_stables_since_the_start():
    assert crashing(0, 0).state.phase == RUNNING
    assert crashing(0, 1).action == "roll back" and "crashed once" in crashing(0, 1).reason
    assert crashing(1, 1).state.phase == RUNNING  # a node that fails takes both
    assert crashing(1, 2).action == "roll back"
    lenient = replace(RULES, crashes=2)
    assert crashing(0, 2, lenient).state.phase == RUNNING and crashing(0, 3, lenient).action == "roll back"


def test_a_crash_of_the_stable_only_holds():
    state, seen = proven()
    state = replace(state, restarts={"v1": [0, 0], "v2": [0, 0]})
    decision = decide(state, replace(seen, restarts={"v1": 1, "v2": 0}), RULES)
    assert decision.action == "hold" and "v1 crashed" in decision.reason
    assert after(decision.state, RULES, restarts={"v1": 1, "v2": 0}).action == "promote"


def test_a_lower_count_of_crashes_is_believed_the_second_time_and_never_invents_one():
    state = play(begun(), RULES, blocks=3, restarts={"v1": 0, "v2": 5}).state
    once = after(state, RULES, n=10, restarts={"v1": 0, "v2": 0})
    assert after(once.state, RULES, n=10, restarts={"v1": 0, "v2": 5}).state.crashes == {}
    twice = after(once.state, RULES, n=10, restarts={"v1": 0, "v2": 0})
    assert twice.state.crashes == {} and twice.state.restarts["v2"] == [0, 0]
    assert after(twice.state, RULES, n=10, restarts={"v1": 0, "v2": 1}).action == "roll back"


def splitting(share, blocks=80, rules=RULES, **changes):
    """Blocks in which the canary gets ``share`` of 200 requests while the proxy says it gets half."""
    state, total = replace(begun(), step=2), np.zeros(2, dtype=int)
    decision = None
    for i in range(blocks):
        total += (200 - int(200 * share), int(200 * share))
        seen = see(1001.0 + i, *(counters(int(n)) for n in total), weights={"v1": 50, "v2": 50}, **changes)
        decision = decide(state, seen, rules)
        state = decision.state
        if decision.action != "hold":
            break
    return decision


def test_a_gateway_that_does_not_split_as_told_is_found_and_never_leads_to_a_promotion():
    strict = replace(RULES, alpha_promote=1e-9)  # the split is found first
    wrong = splitting(0.3, rules=strict)
    assert wrong.action == "hold" and "does not split as told" in wrong.reason
    assert split_row(wrong.state)["log_e"] >= SPLIT_AT and split_row(wrong.state)["mean"] == pytest.approx(0.3)
    assert splitting(0.3, 200, rules=replace(strict, cap=150.0)).action == "roll back"
    right = splitting(0.5, rules=strict)
    assert "does not split" not in right.reason and split_row(right.state)["n"] > 1000
    # proof of everything else does not promote it
    promotable = replace(wrong.state, step=2)
    assert after(promotable, RULES, weights={"v1": 50, "v2": 50}).action != "promote"


def test_the_split_is_not_judged_while_weights_move_or_something_is_wrong():
    for changes in (
        {"ready": {"v1": False, "v2": True}},
        {"problem": "the proxy does not answer"},
    ):
        assert split_row(splitting(0.3, blocks=15, **changes).state) is None


def test_the_cap_with_a_problem_rolls_back():
    state = play(begun(), RULES, blocks=6, n=2).state
    near = replace(state, observed=RULES.cap)
    assert after(near, RULES, n=1).state.phase == HELD
    # one bad look at the cap: a clean one may follow, and then decides
    decision = after(near, RULES, n=1, problem="the proxy does not answer")
    assert decision.action == "hold"
    assert after(decision.state, RULES, n=1).state.phase == HELD
    over = RULES.cap + RULES.stale_after
    later = replace(state, observed=over, last_data=over)
    decision = after(later, RULES, n=1, problem="the proxy does not answer")
    assert decision.action == "roll back" and "with a problem" in decision.reason


def test_harm_is_acted_on_while_the_canary_is_not_ready():
    state = play(begun(), RULES, blocks=4).state
    grown = state.cursors["v1"]["pod-1"]["errors"][0]
    seen = see(state.now + 1, counters(grown + 300), counters(grown + 300, 200), ready={"v1": True, "v2": False})
    assert decide(state, seen, RULES).action == "roll back"


def test_the_cap_comes_also_when_nothing_is_ready():
    state, phases = begun(), []
    for i in range(300):
        seen = see(1001.0 + i, counters(0), counters(0), ready={"v1": False, "v2": False})
        state = decide(state, seen, RULES).state
        phases.append(state.phase)
        if state.phase != RUNNING:
            break
    assert state.phase == ROLLED_BACK and len(phases) == pytest.approx(RULES.cap, abs=2)


def test_a_clock_that_jumps_neither_spends_the_cap_nor_stops_it():
    state = play(begun(), RULES, blocks=4, n=2).state
    jumped = after(state, RULES, t=600.0, n=2).state
    assert jumped.observed - state.observed == LONGEST_BLOCK_S
    back = after(jumped, RULES, t=-599.0, n=2).state
    assert back.observed == jumped.observed and back.now == jumped.now
    year = after(state, RULES, t=3e7, n=2).state
    returned = after(year, RULES, t=-3e7, n=2).state
    assert returned.now == year.now - 3e7
    assert after(returned, RULES, t=1.0, n=2).state.observed == returned.observed + 1


def test_memory_is_bounded_and_counts_everything():
    state, seen = begun(), None
    for i in range(60):
        seen = see(1001.0 + i, counters(i), counters(i), spec=f"spec-{i}", problem="x" * 5000)
        decision = decide(state, seen, RULES)
        state = decision.state
        assert len(decision.reason) <= 1500
    assert len(state.recent) == 16 and all(len(r["reason"]) <= 300 for r in state.recent)
    assert state.counts["start anew"] == 60


def test_rules_survive_their_record():
    for rules in (RULES, PAIRED, STAGED):
        again = Rules.from_record(rules.record())
        assert again == rules and again.digest == rules.digest
    assert STAGED.digest != RULES.digest and len(STAGED.guardrails) == len(RULES.guardrails) + 1
    assert STAGED.rollback_at > RULES.rollback_at
