"""Metrics against scikit-learn and against slow, plain versions of themselves."""

from __future__ import annotations

import time

import numpy as np
import pytest
from sklearn import metrics as sk

from seaway import metrics


@pytest.fixture(scope="module")
def rows():
    draw = np.random.default_rng(1)
    scores = np.round(draw.random(3000), 2).astype(np.float32)  # many ties
    labels = (draw.random(3000) < scores**3).astype(np.float32)
    return scores, labels


def test_ranking_metrics_equal_scikit_learn_with_ties(rows):
    scores, labels = rows
    assert metrics.auc_roc(scores, labels) == pytest.approx(sk.roc_auc_score(labels, scores), abs=1e-12)
    wanted = sk.average_precision_score(labels, scores)
    assert metrics.average_precision(scores, labels) == pytest.approx(wanted, abs=1e-12)


def test_weights_count_rows_as_often_as_they_were_drawn(rows):
    scores, labels = rows
    bootstrap = metrics.Bootstrap(len(scores), 3, seed=5)
    weights = next(bootstrap.chunks())[0]
    repeated = [np.repeat(np.arange(len(scores)), w.astype(int)) for w in weights]
    assert weights.sum(axis=1).tolist() == [3000.0] * 3
    many = metrics.measure(scores, labels, 0.5, weights)
    for i, chosen in enumerate(repeated):
        one = metrics.measure(scores[chosen], labels[chosen], 0.5)
        for name in set(metrics.METRICS) - {"calibration_error"}:  # its bins stay those of all rows
            assert many[name][i] == pytest.approx(one[name], abs=1e-6), name


def test_decisions_equal_scikit_learn(rows):
    scores, labels = rows
    found = metrics.decisions(scores, labels, 0.6)
    p, r, f, _ = sk.precision_recall_fscore_support(labels, scores >= np.float32(0.6), average="binary")
    assert [found[k] for k in ("precision", "recall", "f1")] == pytest.approx([p, r, f])
    assert metrics.decisions(scores, labels, 2.0)["precision"] == 0.0


def test_best_threshold_is_the_best_of_all(rows):
    scores, labels = rows
    threshold, f1 = metrics.best_threshold(scores, labels)
    every = {t: sk.f1_score(labels, scores >= t) for t in np.unique(scores)}
    assert f1 == pytest.approx(max(every.values()))
    assert every[np.float32(threshold)] == pytest.approx(f1)


def test_one_class_is_not_defined():
    scores = np.array([0.1, 0.2])
    assert np.isnan(metrics.auc_roc(scores, np.zeros(2)))
    assert np.isnan(metrics.average_precision(scores, np.zeros(2)))
    assert metrics.interval(np.full(10, np.nan)) == (None, None)


def test_calibration_of_true_probabilities_is_better_than_of_shifted_ones():
    draw = np.random.default_rng(0)
    true = draw.random(20_000)
    labels = (draw.random(20_000) < true).astype(float)
    assert metrics.calibration_error(true, labels) < 0.02 < 0.15 < metrics.calibration_error(true**3, labels)
    assert metrics.brier(true, labels) == pytest.approx(sk.brier_score_loss(labels, true))
    curve = metrics.calibration_curve(true, labels)
    assert sum(point["rows"] for point in curve) == 20_000
    assert all(abs(point["score"] - point["share"]) < 0.05 for point in curve)


def plain_precision_at_k(days, keys, scores, labels, k):
    known, shares = set(), []
    for day in sorted(set(days)):
        best = {}
        for d, key, score, label in zip(days, keys, scores, labels, strict=True):
            if d == day and key not in known:
                s, y = best.get(key, (-1.0, 0))
                best[key] = (max(s, score), max(y, label))
        top = sorted(best.items(), key=lambda item: (-item[1][0], item[0]))[:k]
        hits = [key for key, (_, label) in top if label]
        known.update(hits)
        shares.append(len(hits) / k)
    return np.mean(shares)


def test_precision_at_k_equals_the_plain_version():
    draw = np.random.default_rng(3)
    days, keys = draw.integers(0, 5, 800), draw.integers(0, 60, 800)
    scores, labels = np.round(draw.random(800), 1), (draw.random(800) < 0.2).astype(int)
    for k in (5, 20, 100):
        wanted = plain_precision_at_k(days, keys, scores, labels, k)
        assert metrics.precision_at_k(days, keys, scores, labels, k) == pytest.approx(wanted)
    ones = np.ones((2, 60))
    weighted = metrics.precision_at_k(days, keys, scores, labels, 5, ones)
    assert weighted == pytest.approx([metrics.precision_at_k(days, keys, scores, labels, 5)] * 2)


def test_an_entity_that_was_found_does_not_count_again():
    days, keys = np.array([0, 1]), np.array([7, 7])
    found = metrics.precision_at_k(days, keys, np.array([0.9, 0.9]), np.array([1, 1]), 1)
    assert found == 0.5


def test_bootstrap_is_seeded_draws_whole_clusters_and_covers_the_value():
    draw = np.random.default_rng(2)
    clusters = np.repeat(np.arange(300), 10)
    labels = np.repeat(draw.random(300) < 0.3, 10).astype(float)
    scores = np.zeros(3000)
    samples = {}
    for name, groups in (("rows", None), ("clusters", clusters)):
        bootstrap = metrics.Bootstrap(3000, 100, 0, groups)
        again = metrics.Bootstrap(3000, 100, 0, groups)
        for (a, _), (b, _) in zip(bootstrap.chunks(), again.chunks(), strict=True):
            assert (a == b).all()
        samples[name] = np.concatenate([metrics.brier(scores, labels, w) for w, _ in bootstrap.chunks()])
    weights, by_cluster = next(metrics.Bootstrap(3000, 100, 0, clusters).chunks())
    assert (weights.reshape(25, 300, 10) == by_cluster[:, :, None]).all()
    low, high = metrics.interval(samples["clusters"])
    assert low < metrics.brier(scores, labels) < high
    # rows of a cluster share their label, so the honest interval is wider, by about the root of 10
    assert samples["clusters"].std() > 2 * samples["rows"].std()


def test_two_hundred_resamples_of_sixty_thousand_rows_are_quick():
    draw = np.random.default_rng(0)
    scores, labels = draw.random(60_000).astype(np.float32), (draw.random(60_000) < 0.01).astype(np.float32)
    started = time.process_time()
    for weights, _ in metrics.Bootstrap(60_000, 200).chunks():
        metrics.measure(scores, labels, 0.5, weights)
    assert time.process_time() - started < 10
