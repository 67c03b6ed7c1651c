"""Whatever is seen, the policy has an answer, the same each time, that can be stored; and it never promotes."""

import json
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from serving.rollout import state as states
from serving.rollout.policy import decide
from serving.rollout.rules import Observation
from tests.serving.rollout_world import RULES


def begun():
    return states.begin("r", "v1", "v2", "spec", 1000.0, RULES.rails)


odd = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 10**6), st.floats(), st.text(max_size=3), st.just({}), st.just([1])
)
counts = st.fixed_dictionaries(
    {"requests": odd, "errors": odd, "slow": st.one_of(odd, st.just({100: 3})), "decisions": odd, "answered": odd}
)


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.builds(
            Observation,
            now=odd,
            spec=st.sampled_from(["spec", "spec", "other"]),
            counters=st.one_of(odd, st.dictionaries(st.sampled_from(["v1", "v2", "v3"]), st.one_of(odd, counts))),
            ready=st.one_of(odd, st.dictionaries(st.sampled_from(["v1", "v2"]), odd)),
            restarts=st.one_of(odd, st.dictionaries(st.sampled_from(["v1", "v2"]), odd)),
            frozen=st.booleans(),
            ended=st.booleans(),
        ),
        max_size=6,
    )
)
def test_decide_is_total_deterministic_and_storable(observations):
    state = begun()
    for seen in observations:
        decision = decide(state, seen, RULES)
        assert repr(decide(state, seen, RULES)) == repr(decision)
        assert decision.action != "promote"
        assert decision.weights is None or sum(decision.weights.values()) == 100
        assert states.State(**json.loads(json.dumps(decision.state.record(), allow_nan=False))) == decision.state
        assert math.isfinite(decision.state.now) and decision.reason
        state = decision.state
