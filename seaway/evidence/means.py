"""Anytime-valid evidence about the mean of bounded numbers, by betting.

For pairs of answers to the same request (flips, score shift) and for loss differences at label arrival. With
v_1, v_2, ... in [low, high], two opposite nulls about their mean:

    promote    null: mean >= margin         factor of a value: 1 + l (margin - v),     0 < l < 1 / (high - margin)
    roll back  null: mean <= tolerance      factor of a value: 1 + l (v - tolerance),  0 < l < 1 / (tolerance - low)

    E = mean over a fixed grid of bets l_j of the product of the factors of all values

Proof sketch. Under the null a factor has mean 1 + l (margin - mean) <= 1 given the past, and it is not negative,
so each product is a non-negative supermartingale from 1, and so is their mean. Ville: P(E ever >= 1/alpha) <=
alpha. (Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSSB 2024,
arXiv:2010.09686; the mean over a grid is their diversified Kelly.) The bets never look at the data, so a product
does not depend on the order of its values and the state is a cumulative record: adding two states' sums is
adding their data.

Assumptions: the mean of each value given the earlier ones lies in the null, also when it moves; no independence
and no common distribution is needed. For labels: their arrival may depend on the outcome but not on which model
was better, and values are ordered by arrival.

Confidence sequences. All m that are not refuted by bets on "mean > m" or on "mean < m", each at alpha / 2, form
an interval that covers the mean at all times together with probability 1 - alpha. From values: the same grid.
From a state, which has only n, sum and sum of squares, wealth is bounded from below by (Fan, Grama and Liu,
EJP 2015: ln(1 + l x) >= l x + (ln(1 - l) + l) x^2 for x >= -1, 0 <= l < 1), an empirical Bernstein bound: a
little wider, equally valid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from seaway.evidence.mixing import log_mean_exp

BETS = np.geomspace(0.02, 0.9, 10)  # shares of the largest bet that cannot lose everything
_EVEN_SAFER = 0.02  # of the range: a null at its very end would allow any bet


@dataclass(frozen=True)
class Bound:
    """The two nulls of one mean, and the range its values cannot leave."""

    margin: float
    tolerance: float = 0.0
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not self.low <= self.tolerance <= self.margin <= self.high or self.low == self.high:
            raise ValueError(f"need low <= tolerance <= margin <= high, not {self}")


def new_state() -> dict[str, Any]:
    """No values: both e-values are 1. A plain cumulative record."""
    return {
        "n": 0,
        "sum": 0.0,
        "squares": 0.0,
        "promote": [0.0] * len(BETS),
        "rollback": [0.0] * len(BETS),
    }


def update(state: dict[str, Any], bound: Bound, values: Any) -> dict[str, Any]:
    """The state after these values too. Pure. ValueError when a value is not a number in [low, high]."""
    v = np.asarray(values, dtype=np.float64).ravel()
    if not v.size:
        return state
    if not ((v >= bound.low) & (v <= bound.high)).all():
        raise ValueError(f"values must lie in [{bound.low}, {bound.high}]")
    down = np.log1p(_bets(bound.high - bound.margin, bound)[:, None] * (bound.margin - v)).sum(axis=1)
    up = np.log1p(_bets(bound.tolerance - bound.low, bound)[:, None] * (v - bound.tolerance)).sum(axis=1)
    return {
        "n": state["n"] + v.size,
        "sum": state["sum"] + float(v.sum()),
        "squares": state["squares"] + float((v * v).sum()),
        "promote": (np.array(state["promote"]) + down).tolist(),
        "rollback": (np.array(state["rollback"]) + up).tolist(),
    }


def log_e(state: dict[str, Any]) -> tuple[float, float]:
    """Natural logarithms of (E_promote, E_rollback)."""
    return float(log_mean_exp(np.array(state["promote"]))), float(log_mean_exp(np.array(state["rollback"])))


def confidence(data: Any, alpha: float = 0.05, low: float = -1.0, high: float = 1.0) -> tuple[float, float]:
    """(lower, upper) of the mean, valid at all times together with probability 1 - alpha.

    ``data``: the values, or a state. Without data the whole range.
    """
    if isinstance(data, Mapping):
        n, total, squares = data["n"], data["sum"], data["squares"]
        against = lambda m, sign: _bernstein(n, total, squares, m, sign, low, high)  # noqa: E731
    else:
        v = np.asarray(data, dtype=np.float64).ravel()
        if v.size and not ((v >= low) & (v <= high)).all():
            raise ValueError(f"values must lie in [{low}, {high}]")
        n, total = v.size, float(v.sum())
        against = lambda m, sign: _wealth(v, m, sign, low, high)  # noqa: E731
    if n == 0:
        return low, high
    limit, mean = np.log(2 / alpha), min(max(total / n, low), high)
    return _edge(lambda m: against(m, 1) < limit, mean, low), _edge(lambda m: against(m, -1) < limit, mean, high)


def _bets(room: float, bound: Bound) -> np.ndarray:
    return BETS / max(room, _EVEN_SAFER * (bound.high - bound.low))


def _wealth(v: np.ndarray, m: float, sign: int, low: float, high: float) -> float:
    """ln of the wealth of bets that the mean is above m (sign 1) or below it (-1)."""
    room = max(m - low if sign > 0 else high - m, _EVEN_SAFER * (high - low))
    return float(log_mean_exp(np.log1p((sign * BETS / room)[:, None] * (v - m)).sum(axis=1)))


def _bernstein(n: int, total: float, squares: float, m: float, sign: int, low: float, high: float) -> float:
    """A lower bound of such a wealth that needs only the sums. With bets up to 1/2 it falls towards the mean."""
    bets, room = BETS * (0.5 / BETS[-1]), high - low
    first, second = sign * (total - n * m) / room, max(squares - 2 * m * total + n * m * m, 0.0) / room**2
    return float(log_mean_exp(bets * first + (np.log1p(-bets) + bets) * second))


def _edge(plausible: Any, inside: float, end: float) -> float:
    """The last plausible mean from ``inside`` towards ``end``, rounded outwards."""
    if plausible(end):
        return end
    for _ in range(50):
        middle = 0.5 * (inside + end)
        inside, end = (middle, end) if plausible(middle) else (inside, middle)
    return end
