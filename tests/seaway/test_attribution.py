"""Contributions: additive, equal to the exact Shapley values where those are cheap, the same each time."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
import time

import numpy as np
import pytest

from seaway.attribution import contributions, reason_codes

DRAW = np.random.default_rng(0)


def curved(rows):
    rows = rows.astype(np.float64)
    return 1 / (1 + np.exp(-(rows[:, 0] * rows[:, 1] + np.sin(rows[:, 2]) + 0.5 * rows[:, 3] ** 2)))


def exact(score, row, background):
    features = len(row)
    phi = np.zeros(features)
    for j in range(features):
        others = [i for i in range(features) if i != j]
        for size in range(features):
            weight = math.factorial(size) * math.factorial(features - size - 1) / math.factorial(features)
            for subset in itertools.combinations(others, size):
                without, joined = background.copy(), background.copy()
                without[:, subset] = row[list(subset)]
                joined[:, [*subset, j]] = row[[*subset, j]]
                phi[j] += weight * (score(joined).mean() - score(without).mean())
    return phi


@pytest.mark.parametrize("walks", [1, 2, 7, 32])
def test_contributions_add_up_to_the_score_less_the_mean(walks):
    background = DRAW.normal(size=(walks, 15)).astype(np.float32)
    row = DRAW.normal(size=15).astype(np.float32)
    phi = contributions(curved, row, background)
    assert phi.shape == (15,)
    assert phi.sum() == pytest.approx(curved(row[None])[0] - curved(background).mean(), abs=1e-9)
    assert (phi[4:] == 0).all()  # features that the score does not use


def test_linear_scores_are_attributed_exactly():
    weights = DRAW.normal(size=6)
    background = DRAW.normal(size=(32, 6)).astype(np.float32)
    row = DRAW.normal(size=6).astype(np.float32)
    phi = contributions(lambda x: x @ weights, row, background)
    assert phi == pytest.approx(weights * (row - background.mean(axis=0)), abs=1e-6)


def test_close_to_the_exact_shapley_values():
    background = DRAW.normal(size=(32, 4)).astype(np.float32)
    row = np.array([1.0, 1.5, 0.7, -1.0], dtype=np.float32)
    wanted = exact(curved, row, background)
    assert np.abs(contributions(curved, row, background) - wanted).max() < 0.25 * np.abs(wanted).max()
    many = np.mean([contributions(curved, row, background, seed) for seed in range(300)], axis=0)
    assert many == pytest.approx(wanted, abs=0.01)


def test_the_same_each_time():
    background, row = DRAW.normal(size=(8, 5)), DRAW.normal(size=5)
    assert (contributions(curved, row, background) == contributions(curved, row, background)).all()


def test_reason_codes_are_words_strongest_first():
    codes = reason_codes(np.array([0.01, -0.3, 0.2, 0.0]), list("abcd"), np.array([1, 2.5, 3, 4]), {"b": "amount"}, 3)
    assert [c["feature"] for c in codes] == ["b", "c", "a"]
    assert codes[0] == {
        "feature": "b", "value": 2.5, "contribution": -0.3, "text": "amount (2.5) lowers the score by 0.300",
    }  # fmt: skip
    assert codes[1]["text"] == "c (3) raises the score by 0.200"
    assert len(reason_codes(np.zeros(2), list("ab"), np.zeros(2), {})) == 0


def test_one_row_takes_milliseconds():
    background, row = DRAW.normal(size=(32, 15)), DRAW.normal(size=15)
    contributions(curved, row, background)
    spent = []
    for _ in range(20):
        started = time.process_time()
        contributions(curved, row, background)
        spent.append(time.process_time() - started)
    assert min(spent) < 0.005


def test_needs_numpy_alone():
    code = "import sys, seaway.attribution; print(sorted(m for m in ('sklearn','torch','polars') if m in sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
