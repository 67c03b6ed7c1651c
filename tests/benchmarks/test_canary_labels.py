"""The labels' world is what its parameters say, and its verdicts are the evidence's own."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.canary import labels
from benchmarks.canary.gates import HELD, PROMOTED, ROLLED_BACK
from benchmarks.canary.score_model import POSITIVE, average_precision, scores, separation
from seaway.evidence import means
from serving.rollout import state as states
from serving.rollout.policy import decide
from serving.rollout.rules import Observation
from serving.substrate.base import Counters


def test_average_precision_agrees_with_a_sample():
    d = separation(0.6)
    rng = np.random.default_rng(0)
    y = np.arange(400_000) < POSITIVE * 400_000
    order = np.argsort(-(rng.normal(size=len(y)) + d * y))
    hits = np.cumsum(y[order])
    sample = (hits / np.arange(1, len(y) + 1))[y[order]].mean()
    assert average_precision(d) == pytest.approx(0.6, abs=1e-6)
    assert sample == pytest.approx(0.6, abs=0.02)


def test_the_atoms_are_a_distribution_with_the_right_margins():
    pairs = labels.pairs_of(0.55)
    assert pairs.probability.sum() == pytest.approx(1)
    assert pairs.probability[pairs.label == 1].sum() == pytest.approx(POSITIVE, rel=1e-6)
    assert pairs.probability[pairs.flagged].sum() == pytest.approx(labels.FLAGGED, rel=0.02)
    assert labels.pairs_of(labels.CHAMPION_AP).mean() == pytest.approx(0, abs=1e-8)  # equal models differ by chance
    assert pairs.mean() > 0


def test_selection_loses_thirty_percent_where_it_says():
    pairs = labels.pairs_of(0.55)
    for feed in labels.FEEDS[1:]:
        kept = feed.kept(pairs)
        assert (pairs.probability * kept).sum() == pytest.approx(0.7)
        if feed.mark:
            marked = getattr(pairs, feed.mark) > 0
            assert kept[marked] == pytest.approx(1 - feed.often)


def test_late_labels_arrive_late():
    share = labels._arrived(labels.DELAY)
    assert share[2 * 3 * labels.STEPS // 2] == pytest.approx(0.5, abs=0.08)  # the median after three days
    assert (np.diff(share) >= 0).all()


def test_counts_of_pairs_are_as_good_as_the_pairs():
    pairs = scores(0.6, 0.55, 0.01, "log", 0.01, 1.0)
    bound = means.Bound(4e-4, 0.0, -1.0, 1.0)
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(pairs.difference), 5000, p=pairs.probability / pairs.probability.sum())
    counts = np.bincount(chosen, minlength=len(pairs.difference))
    whole = means.update(means.new_state(), bound, pairs.difference[chosen])
    for name in ("promote", "rollback"):
        gains = np.array([labels._gain(bound, v)[name] for v in pairs.difference])
        assert counts @ gains == pytest.approx(whole[name], abs=1e-8)


def test_verdicts_of_a_worse_a_like_and_a_better_model():
    found = {name: labels.simulate(name, labels.FEEDS[1], 300, (0, 1)) for name in labels.CANARIES}
    worse, like, better = found.values()
    assert worse.share(PROMOTED) <= 300 * 0.05
    assert worse.share(ROLLED_BACK) >= 300 * 0.9
    assert like.share(PROMOTED) >= 300 * 0.9
    assert better.days(PROMOTED)[0] < like.days(PROMOTED)[0]
    assert math.isclose(sum(worse.share(v) for v in (PROMOTED, ROLLED_BACK, HELD)), 300)


def test_the_policy_decides_by_the_same_thresholds():
    """A provisional release with a reading just above or below each threshold."""
    told = replace(labels.rules(4e-4), slo_ms=100)
    for verdict, name, at in ((PROMOTED, "promote", told.promote_at), (ROLLED_BACK, "rollback", told.rollback_at)):
        for above in (False, True):
            loss = means.new_state() | {"n": 100, "sum": 0.0, name: [at + (0.01 if above else -0.01)] * len(means.BETS)}
            assert (provisional(told, loss) == verdict) == above


def provisional(told, loss):
    state = states.begin("r", "v1", "v2", "s", 1000.0, told.rails)
    ready = {"v1": True, "v2": True}
    pods = [{n: {"p": Counters(k, 0, {100: 0}, 0, k)} for n in ready} for k in (100, 200)]
    proven = {name: known | {"promote": [9.0] * len(known["promote"])} for name, known in state.evidence.items()}
    state = replace(state, phase=states.PROVISIONAL, provisional_since=0.0, evidence=proven)
    state = decide(state, Observation(now=1001.0, spec="s", counters=pods[0], ready=ready), told).state
    seen = Observation(now=1002.0, spec="s", counters=pods[1], ready=ready, pairs={"loss": loss})
    phase = decide(state, seen, told).state.phase
    return {states.PROMOTED: PROMOTED, states.ROLLED_BACK: ROLLED_BACK}.get(phase, HELD)
