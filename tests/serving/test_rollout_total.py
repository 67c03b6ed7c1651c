"""Whatever is seen, the policy has an answer, the same each time, that can be stored; and it never promotes."""

import json
import math
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from seaway.artifacts import canonical_json
from seaway.evidence import means
from seaway.evidence.means import Bound
from serving.rollout import state as states
from serving.rollout.policy import decide
from serving.rollout.rules import LossRules, Observation
from serving.rollout.state import PROVISIONAL
from tests.serving.rollout_world import RULES

STAGED = replace(
    RULES,
    pairs={"flips": Bound(0.05, 0.01, 0.0, 1.0)},
    loss=LossRules(Bound(0.05), "brier", 0.01, 1.0, 5, 300.0),
)

odd = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 10**6), st.floats(), st.text(max_size=3), st.just({}), st.just([1])
)
counts = st.fixed_dictionaries(
    {
        "requests": odd,
        "errors": odd,
        "slow": st.one_of(odd, st.just({100: 3}), st.just({"100": 3, "?": 1})),
        "decisions": odd,
        "answered": odd,
        "at": st.one_of(st.none(), st.floats(900, 1100), odd),
    }
)
sources = st.dictionaries(st.one_of(st.sampled_from(["a", "b"]), st.integers(), st.none()), st.one_of(counts, odd))
readings = st.one_of(
    odd,
    st.just(means.new_state()),
    st.fixed_dictionaries(
        {
            "n": odd,
            "sum": odd,
            "squares": odd,
            "promote": st.one_of(odd, st.lists(st.floats(), min_size=16, max_size=16)),
            "rollback": st.one_of(odd, st.lists(st.floats(), min_size=16, max_size=16)),
        }
    ),
)
named = st.dictionaries(st.sampled_from(["v1", "v2", "v3"]), odd)
seen_of = st.builds(
    Observation,
    now=odd,
    spec=st.sampled_from(["spec", "spec", "spec", "other", ""]),
    uid=st.sampled_from(["", "uid", "uid", "another"]),
    counters=st.one_of(odd, st.dictionaries(st.sampled_from(["v1", "v2", "v3"]), st.one_of(odd, sources))),
    asked=st.one_of(odd, named),
    weights=st.one_of(odd, named, st.just({"v1": 90, "v2": 10})),
    ready=st.one_of(odd, named, st.just({"v1": True, "v2": True})),
    restarts=st.one_of(odd, named),
    pairs=st.one_of(odd, st.dictionaries(st.sampled_from(["flips", "loss", "x"]), readings)),
    frozen=st.booleans(),
    promote=st.sampled_from([None, "ann"]),
    ended=st.booleans(),
    artifact=st.sampled_from(["", "", "changed"]),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(seen_of, max_size=6), st.sampled_from([RULES, STAGED]), st.booleans())
def test_decide_is_total_deterministic_and_storable(observations, rules, provisional):
    state = states.begin("r", "v1", "v2", "spec", 1000.0, rules.rails)
    if provisional:
        state = replace(state, phase=PROVISIONAL, provisional_since=0.0, rules=rules.digest)
    for seen in observations:
        decision = decide(state, seen, rules)
        assert repr(decide(state, seen, rules)) == repr(decision)
        assert decision.action not in ("promote", "promote provisionally", "confirm")
        assert decision.weights is None or sum(decision.weights.values()) == 100
        assert states.State(**json.loads(json.dumps(decision.state.record(), allow_nan=False))) == decision.state
        assert math.isfinite(decision.state.now) and decision.reason
        assert len(canonical_json(decision.state.record())) < states.LIMIT
        state = decision.state


@settings(max_examples=300, deadline=None)
@given(seen_of)
def test_an_observation_in_the_form_in_which_it_is_logged_stays_as_it_is(seen):
    """What the loop decides on went through the log's form once; a second time changes nothing."""
    record = json.loads(canonical_json(seen.record()))
    logged = Observation.from_record(record)
    assert json.loads(canonical_json(logged.record())) == record
    state = states.begin("r", "v1", "v2", "spec", 1000.0, RULES.rails)
    again = decide(state, Observation.from_record(json.loads(canonical_json(logged.record()))), RULES)
    assert again == decide(state, logged, RULES)
