"""Which features made a score: Shapley values against reference rows, in numpy alone.

A feature's contribution is the change it makes to the score when it takes the row's value instead of a
reference row's, averaged over orders in which features change (Strumbelj and Kononenko 2014) and over
the reference rows. Each reference row is walked once, in a fixed order and every second one in the
reverse of the order before it (antithetic: less variance). Along each walk the changes add up, so
contributions sum to the score minus the mean reference score exactly, whatever the number of walks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np


@lru_cache(maxsize=8)
def _orders(features: int, walks: int, seed: int) -> np.ndarray:
    """(walks, features): the order in which each walk changes its features."""
    draw = np.random.default_rng(seed)
    orders = np.empty((walks, features), dtype=np.int64)
    for walk in range(walks):
        orders[walk] = orders[walk - 1][::-1] if walk % 2 else draw.permutation(features)
    return orders


def contributions(
    score: Callable[[np.ndarray], np.ndarray], row: np.ndarray, background: np.ndarray, seed: int = 0
) -> np.ndarray:
    """Contribution of each feature to ``score(row)``: float64 (f,), the same for the same input.

    ``score`` maps float32 (n, f) to (n,); ``row`` (f,); ``background`` (b, f), b >= 1. One call of
    ``score`` on b * (f + 1) rows. Sum = score(row) - mean(score(background)).
    """
    background = np.asarray(background, dtype=np.float32)
    row = np.asarray(row, dtype=np.float32)
    walks, features = background.shape
    orders = _orders(features, walks, seed)
    # rank[w, j]: the step at which walk w changes feature j; after step s it has changed ranks < s
    rank = np.argsort(orders, axis=1)
    changed = rank[:, None, :] < np.arange(features + 1)[None, :, None]
    rows = np.where(changed, row, background[:, None, :])
    scores = np.asarray(score(rows.reshape(-1, features)), dtype=np.float64).reshape(walks, features + 1)
    steps = np.diff(scores, axis=1)
    return np.take_along_axis(steps, rank, axis=1).mean(axis=0)


def reason_codes(
    phi: np.ndarray, names: Sequence[str], values: np.ndarray, reasons: Mapping[str, str], k: int = 3
) -> list[dict[str, Any]]:
    """The ``k`` features that moved the score most, strongest first, in words.

    Each: feature, value, contribution and text. Features that moved nothing are left out.
    """
    order = sorted(range(len(names)), key=lambda j: (-abs(float(phi[j])), j))[:k]
    codes = []
    for j in order:
        amount = float(phi[j])
        if amount == 0:
            continue
        value, name = float(values[j]), names[j]
        effect = "raises" if amount > 0 else "lowers"
        text = f"{reasons.get(name, name)} ({value:g}) {effect} the score by {abs(amount):.3f}"
        codes.append({"feature": name, "value": value, "contribution": amount, "text": text})
    return codes
