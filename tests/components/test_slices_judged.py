"""A slice's model is kept by the paired comparison alone; and no more slices than a signed bundle has room for."""

from __future__ import annotations

import numpy as np
import pytest

from components.evaluate.measure import compare
from components.slices.judge import MIN_GROUPS, judge, resamples
from seaway.config.workload import MAX_SLICES, Slices
from seaway.errors import SeawayError
from seaway.metrics import Bootstrap

from .conftest import make_config

METRIC = "average_precision"


def rows(count, seed=0):
    """Labels, and a score that knows much of them."""
    draw = np.random.default_rng(seed)
    labels = (draw.random(count) < 0.3).astype(np.float32)
    return labels, (labels + draw.normal(size=count)).astype(np.float32), draw


def test_a_clearly_better_model_is_kept_and_a_worse_one_is_not():
    labels, good, draw = rows(800)
    bad = draw.random(800).astype(np.float32)
    found = judge(METRIC, good, bad, labels, Bootstrap(800, 100))
    assert (found["kept"], found["reason"]) == (True, "")
    assert found["own"] > found["global"]
    assert 0 < found["difference"]["low"] < found["difference"]["value"] < found["difference"]["high"]
    lost = judge(METRIC, bad, good, labels, Bootstrap(800, 100))
    assert not lost["kept"]
    assert lost["reason"] == f"{METRIC} on later rows is {lost['own']:.4f}, the global model's {lost['global']:.4f}"


def test_a_gain_that_may_be_chance_is_not_enough():
    labels, good, draw = rows(120, seed=6)
    others = (good + 0.2 * draw.normal(size=120)).astype(np.float32)
    found = judge(METRIC, good, others, labels, Bootstrap(120, 200))
    assert found["own"] > found["global"]  # the point value alone would keep it
    assert not found["kept"]
    assert "too few rows to tell" in found["reason"]
    assert f"{found['difference']['low']:+.4f}" in found["reason"]


def test_it_is_the_comparison_of_the_gate():
    labels, good, draw = rows(300)
    others = draw.random(300).astype(np.float32)
    mine, theirs, gap = compare(METRIC, good, others, labels, Bootstrap(300, 50, 4))
    found = judge(METRIC, good, others, labels, Bootstrap(300, 50, 4))
    assert (found["own"], found["global"]) == (mine, theirs)
    assert found["difference"] == {"value": gap.value, "low": gap.low, "high": gap.high}


def test_where_lower_is_better_the_lower_one_is_kept():
    labels, _, draw = rows(600)
    near, far = np.clip(labels * 0.8 + 0.1, 0, 1), draw.random(600)
    assert judge("brier", near, far, labels, Bootstrap(600, 50))["kept"]
    assert not judge("brier", far, near, labels, Bootstrap(600, 50))["kept"]


def test_equal_models_and_rows_of_one_class_fall_back():
    labels, good, draw = rows(200)
    assert not judge(METRIC, good, good, labels, Bootstrap(200, 50))["kept"]
    found = judge("auc_roc", good, draw.random(200), np.zeros(200, np.float32), Bootstrap(200, 50))
    assert not found["kept"]
    assert "cannot be compared on its 200 later rows" in found["reason"]


def test_rows_of_an_entity_are_drawn_together_unless_there_are_too_few_entities():
    labels, good, draw = rows(400)
    others = (good + draw.normal(size=400)).astype(np.float32)
    width = {}
    for groups in (None, np.arange(400) // 10, np.arange(400) % (MIN_GROUPS - 1), np.zeros(400, int)):
        gap = judge(METRIC, good, others, labels, resamples(400, 100, 0, groups))["difference"]
        width[0 if groups is None else len(np.unique(groups))] = gap["high"] - gap["low"]
    assert width[40] != width[0]
    assert width[MIN_GROUPS - 1] == width[1] == width[0]  # of one entity every resample would be the same
    assert width[1] > 0


def test_more_slices_than_a_signed_bundle_holds_are_refused(tmp_path, toy_hooks):
    assert Slices(by="x", maximum=MAX_SLICES).maximum == MAX_SLICES
    with pytest.raises(SeawayError) as said:
        make_config(tmp_path, toy_hooks, slices={"by": "machine", "maximum": MAX_SLICES + 1})
    told = str(said.value)
    for part in ("workload.slices.maximum", f"value: {MAX_SLICES + 1}", f"set {MAX_SLICES} or less"):
        assert part in told
