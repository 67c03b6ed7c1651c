"""Each branch of the verdict, from numbers alone."""

from __future__ import annotations

import pytest

from components.evaluate.verdict import Estimate, SegmentDifference, decide_verdict
from seaway.config import Gates

GATES = Gates(minimum={"auc_roc": 0.75}, max_regression=0.02, max_segment_regression=0.1, min_positives=30)
GOOD = {"auc_roc": Estimate(0.9, 0.88, 0.92)}


def verdict(positives=100, metrics=GOOD, difference=None, segments=(), gates=GATES):
    return decide_verdict(gates, positives, metrics, difference, segments)


def test_passes_without_champion():
    record = verdict()
    assert (record["verdict"], record["reasons"]) == ("pass", [])
    assert [g["name"] for g in record["gates"]] == ["positives", "minimum auc_roc"]
    assert all(g["ok"] for g in record["gates"])


def test_too_few_positives_is_not_enough_data_even_when_a_metric_is_low():
    record = verdict(positives=29, metrics={"auc_roc": Estimate(0.5)})
    assert record["verdict"] == "not enough data"
    assert "only 29 positive rows" in record["reasons"][0]


def test_below_the_minimum_fails_and_says_so():
    record = verdict(metrics={"auc_roc": Estimate(0.74, 0.7, 0.8)})
    assert record["verdict"] == "fail"
    assert record["reasons"] == ["auc_roc is 0.7400, below the minimum of 0.75"]
    assert record["gates"][1] == {
        "name": "minimum auc_roc", "value": 0.74, "low": 0.7, "high": 0.8, "bound": 0.75, "ok": False,
    }  # fmt: skip


@pytest.mark.parametrize("metrics", [{}, {"auc_roc": Estimate(None)}])
def test_an_undefined_metric_is_not_enough_data(metrics):
    assert verdict(metrics=metrics)["verdict"] == "not enough data"


@pytest.mark.parametrize(
    ("difference", "expected"),
    [
        (Estimate(0.0, 0.0, 0.0), "pass"),  # the champion itself
        (Estimate(0.01, -0.019, 0.03), "pass"),
        (Estimate(-0.01, -0.02, 0.0), "pass"),  # the bound itself is allowed
        (Estimate(-0.01, -0.021, 0.0), "not enough data"),  # could be worse than allowed
        (Estimate(-0.03, -0.05, -0.01), "fail"),
        (Estimate(None), "not enough data"),
    ],
)
def test_against_the_champion(difference, expected):
    assert verdict(difference=difference)["verdict"] == expected


@pytest.mark.parametrize(
    ("difference", "enough", "expected"),
    [
        (Estimate(-0.2, -0.3, -0.1), True, "fail"),
        (Estimate(-0.2, -0.5, 0.1), True, "pass"),  # not proven
        (Estimate(-0.05, -0.08, -0.01), True, "pass"),  # allowed
        (Estimate(-0.2, -0.3, -0.1), False, "pass"),  # the group is too small to judge
        (Estimate(None), True, "pass"),
    ],
)
def test_in_a_segment(difference, enough, expected):
    record = verdict(segments=[SegmentDifference("amount", "below 25", difference, enough)])
    assert record["verdict"] == expected
    if expected == "fail":
        assert record["reasons"] == ["average_precision is 0.2000 worse than the champion's where amount is below 25"]


def test_a_failed_gate_outweighs_an_unclear_one():
    record = verdict(metrics={"auc_roc": Estimate(0.5)}, difference=Estimate(0.0, -0.05, 0.05))
    assert record["verdict"] == "fail"
    assert len(record["reasons"]) == 2
