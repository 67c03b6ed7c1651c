"""Bounded losses: range, properness, weights."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seaway.evidence.losses import KINDS, loss


@given(
    st.sampled_from(KINDS),
    st.floats(0, 1),
    st.sampled_from([0, 1]),
    st.floats(1e-6, 0.49),
    st.floats(0.01, 1000),
)
def test_losses_lie_in_0_to_1(kind, p, label, clip, weight):
    value = loss(kind, p, label, clip, weight)
    assert 0 <= value <= 1
    assert loss(kind, float(label), label, clip, weight) == 0
    assert loss(kind, 1.0 - label, label, clip, weight) == pytest.approx((weight if label else 1) / max(weight, 1))


def test_values_by_hand():
    assert loss("brier", [0.2, 0.2], [1, 0]) == pytest.approx([0.64, 0.04])
    span = math.log(0.99) - math.log(0.01)
    assert loss("log", [0.5, 0.001, 0.2], [1, 1, 0]) == pytest.approx(
        [(math.log(0.99) - math.log(0.5)) / span, 1.0, (math.log(0.99) - math.log(0.8)) / span]
    )
    assert loss("brier", [0.2, 0.2], [1, 0], positive_weight=4.0) == pytest.approx([0.64, 0.01])
    assert loss("brier", [0.2, 0.2], [1, 0], positive_weight=0.5) == pytest.approx([0.32, 0.04])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weight", [0.2, 1.0, 20.0])
@pytest.mark.parametrize("true", [0.03, 0.2, 0.7])
def test_the_mean_is_least_at_the_true_probability_of_the_reweighted_odds(kind, weight, true):
    said = np.linspace(0.001, 0.999, 999)
    mean = true * loss(kind, said, 1, 1e-3, weight) + (1 - true) * loss(kind, said, 0, 1e-3, weight)
    odds = weight * true / (1 - true)
    assert said[mean.argmin()] == pytest.approx(odds / (1 + odds), abs=0.0015)


def test_arguments_out_of_range_are_refused():
    for wrong, text in [
        (("brier", 1.5, 1), "probabilities"),
        (("brier", float("nan"), 1), "probabilities"),
        (("brier", 0.5, 2), "labels"),
        (("log", 0.5, 1, 0.5), "clip"),
        (("log", 0.5, 1, 0.0), "clip"),
        (("log", 0.5, 1, 0.01, 0.0), "positive_weight"),
        (("hinge", 0.5, 1), "none of brier, log"),
    ]:
        with pytest.raises(ValueError, match=text):
            loss(*wrong)
