"""Two calibrated models' scores of the same requests, as a table of probabilities: no draws, no files.

A model sees x, normal with mean 0 for a negative and d for a positive, variance 1, and gives the probability that
follows from it and the share of positives: calibrated by construction. d is found from the average precision
wanted. The noise of the two models is correlated. The joint distribution of both scores is put on a grid, and
the loss differences are gathered in bins, each with its mean, so that the mean of all is exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

from seaway.evidence.losses import loss

POSITIVE = 0.01
CORRELATION = 0.8
_GRID, _REACH, _BINS = 601, 6.0, 30  # bins of each label and decision


@dataclass(frozen=True)
class Scores:
    """Atoms of (label, flagged by the stable, loss difference): probabilities sum to 1."""

    label: np.ndarray
    flagged: np.ndarray
    difference: np.ndarray
    probability: np.ndarray

    def mean(self, kept: np.ndarray | float = 1.0) -> float:
        """The mean loss difference where the label of an atom is kept with this probability."""
        weight = self.probability * kept
        return float((weight * self.difference).sum() / weight.sum())


def average_precision(d: float) -> float:
    """The area under precision over recall, by the trapezoid rule."""
    t = np.linspace(-8, 8 + d, 20_001)[::-1]
    recall, false = 1 - _phi(t - d), 1 - _phi(t)
    precision = POSITIVE * recall / np.maximum(POSITIVE * recall + (1 - POSITIVE) * false, 1e-300)
    return float(np.trapezoid(precision, recall))


@cache
def separation(wanted: float) -> float:
    """The d that gives this average precision."""
    low, high = 0.0, 8.0
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if average_precision(middle) < wanted else (low, middle)
    return 0.5 * (low + high)


@cache
def scores(stable_ap: float, canary_ap: float, flagged: float, kind: str, clip: float, weight: float) -> Scores:
    """The atoms; ``flagged`` is the share of requests that the stable decides positively."""
    d_s, d_c = separation(stable_ap), separation(canary_ap)
    z = np.linspace(-_REACH, _REACH, _GRID)
    z_s, other = (v.ravel() for v in np.meshgrid(z, z))
    z_c = CORRELATION * z_s + np.sqrt(1 - CORRELATION**2) * other
    mass = np.exp(-0.5 * (z_s**2 + other**2))
    mass /= mass.sum()
    limit = _threshold(d_s, flagged)
    parts = []
    for y, prior in ((0, 1 - POSITIVE), (1, POSITIVE)):
        x_s, x_c = z_s + y * d_s, z_c + y * d_c
        difference = loss(kind, _given(x_c, d_c), y, clip, weight) - loss(kind, _given(x_s, d_s), y, clip, weight)
        for is_flagged in (False, True):
            chosen = (x_s >= limit) == is_flagged
            parts.append(_binned(y, is_flagged, difference[chosen], mass[chosen] * prior))
    return Scores(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _binned(y: int, flagged: bool, difference: np.ndarray, mass: np.ndarray) -> tuple[np.ndarray, ...]:
    """No difference exactly; the others in bins that share the mean square equally, each at its own mean."""
    order = np.argsort(difference)
    d, m = difference[order], mass[order]
    spread = np.cumsum(m * d * d)
    index = np.minimum((spread / spread[-1] * _BINS).astype(int), _BINS - 1)
    _, index = np.unique(np.where(d == 0, -1, index + _BINS * (d > 0)), return_inverse=True)
    total = np.bincount(index, m)
    mean = np.bincount(index, m * d) / np.maximum(total, 1e-300)
    some = total > 0
    return np.full(some.sum(), y), np.full(some.sum(), flagged), mean[some], total[some]


def _given(x: np.ndarray, d: float) -> np.ndarray:
    """The probability of a positive given x."""
    return 1 / (1 + (1 - POSITIVE) / POSITIVE * np.exp(d * d / 2 - d * x))


def _threshold(d: float, flagged: float) -> float:
    low, high = -8.0, 8.0 + d
    for _ in range(60):
        t = 0.5 * (low + high)
        share = POSITIVE * (1 - _phi(np.array([t - d]))[0]) + (1 - POSITIVE) * (1 - _phi(np.array([t]))[0])
        low, high = (t, high) if share > flagged else (low, t)
    return 0.5 * (low + high)


def _phi(x: np.ndarray) -> np.ndarray:
    """The normal distribution function."""
    return 0.5 * np.vectorize(math.erfc)(-x / math.sqrt(2))
