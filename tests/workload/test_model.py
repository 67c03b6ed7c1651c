"""The card model: its contract, and that the recipe learns and repeats."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from seaway.errors import SeawayError
from workload import recipe
from workload.model import build


def _data(rows: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Skewed inputs; positive where the first is large or the second (mostly 0) is not 0."""
    draw = np.random.default_rng(0)
    data = np.stack([draw.lognormal(3, 1, rows), (draw.random(rows) < 0.02) * 0.3, draw.normal(size=rows)], axis=1)
    return data.astype(np.float32), ((data[:, 0] > 120) | (data[:, 1] > 0)).astype(np.int64)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"hidden": 16, "layers": 3, "dropout": 0.5, "batch_size": 7},
        {"members": 5, "plain": 2, "logs": 1, "layers": 1},
        {"members": 2, "plain": 2},
    ],
)
def test_logits_of_raw_rows(params):
    data, _ = _data(100)
    model = build(params, data.mean(axis=0), data.std(axis=0)).eval()
    logits = model(torch.as_tensor(data))
    assert logits.shape == (100,) and logits.dtype == torch.float32
    assert torch.allclose(logits, model.members(torch.as_tensor(data)).mean(dim=0))
    assert {"mean", "std"} <= set(dict(model.named_buffers()))


def test_members_that_are_given_less():
    model = build({"members": 6, "plain": 2, "logs": 1, "hidden": 8}, np.zeros(3), np.ones(3))
    sizes = [tuple(first.shape) for first in model.first]
    assert sizes[:2] == [(2, 3, 8), (1, 6, 8)] and sizes[2][0] == 3 and sizes[2][1] > 30
    with pytest.raises(SeawayError, match="3 members cannot have 2 plain and 2 logs"):
        build({"members": 3, "plain": 2, "logs": 2}, np.zeros(3), np.ones(3))


def test_constant_and_extreme_inputs_stay_finite():
    model = build({}, np.zeros(3), np.zeros(3)).eval()
    rows = torch.tensor([[0.0, 1e9, -1e9], [0.0, 0.0, 0.0]])
    assert torch.isfinite(model(rows)).all()


def test_units_of_a_feature_do_not_matter():
    data, _ = _data(200)
    torch.manual_seed(0)
    one = build({}, data.mean(axis=0), data.std(axis=0)).eval()
    torch.manual_seed(0)
    cents = build({}, data.mean(axis=0) * 100, data.std(axis=0) * 100).eval()
    assert torch.allclose(one(torch.as_tensor(data)), cents(torch.as_tensor(data * 100)), atol=1e-4)


def test_recipe_learns_and_repeats():
    data, labels = _data()
    params = {"learning_rate": 5e-3, "batch_size": 128, "epochs": 15, "hidden": 16, "negatives": 0.5}
    first = recipe.scores("network", params, data[:3000], labels[:3000], data[3000:], seed=1)
    again = recipe.scores("network", params, data[:3000], labels[:3000], data[3000:], seed=1)
    assert np.array_equal(first, again)
    other = recipe.scores("network", params, data[:3000], labels[:3000], data[3000:], seed=2)
    assert not np.array_equal(first, other)
    held = labels[3000:]
    assert first[held == 1].min() > np.quantile(first[held == 0], 0.9)
    # fewer negatives were shown; the mean probability is still near the share of positives
    assert first.mean() == pytest.approx(held.mean(), rel=0.3)


def test_logistic_regression_ranks():
    data, labels = _data()
    found = recipe.scores("logistic", {"C": 1.0}, data[:3000], labels[:3000], data[3000:], seed=0)
    held = labels[3000:]
    assert found.shape == (1000,) and found[held == 1].mean() > 5 * found[held == 0].mean()
