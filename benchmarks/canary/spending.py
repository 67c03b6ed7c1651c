"""Boundaries of a group-sequential test (Lan and DeMets, Biometrika 1983), one-sided, by numerical integration.

The error spent up to a share t of the information is 2 - 2 Phi(z(1 - alpha/2) / sqrt(t)), O'Brien-Fleming-like.
The density of the score process among those who have not crossed is carried from look to look (Armitage,
McPherson and Rowe, JRSS A 1969).
"""

from __future__ import annotations

import math
from functools import cache
from statistics import NormalDist

import numpy as np

_GRID = 1201
_NORMAL = NormalDist()


@cache
def boundaries(looks: int, alpha: float) -> tuple[float, ...]:
    """The z-values at ``looks`` equal steps of information; crossing any has probability alpha under the null."""
    found: list[float] = []
    x = density = None
    for look in range(1, looks + 1):
        spent = [_spent(max(k, 0) / looks, alpha) for k in (look - 1, look)]
        bound = _solve(x, density, spent[1] - spent[0], look / looks, 1 / looks)
        found.append(bound / math.sqrt(look / looks))
        # the process B(t) = Z sqrt(t): density of those below the boundary, on a grid
        grid = np.linspace(-8 * math.sqrt(look / looks), bound, _GRID)
        density = _carried(x, density, grid, 1 / looks)
        x = grid
    return tuple(found)


def _spent(t: float, alpha: float) -> float:
    return 2 - 2 * _NORMAL.cdf(_NORMAL.inv_cdf(1 - alpha / 2) / math.sqrt(t)) if t > 0 else 0.0


def _carried(x: np.ndarray | None, density: np.ndarray | None, at: np.ndarray, step: float) -> np.ndarray:
    """The density one step of information later."""
    if x is None or density is None:
        return np.exp(-(at**2) / (2 * step)) / math.sqrt(2 * math.pi * step)
    found = np.empty_like(at)
    for part in np.array_split(np.arange(len(at)), 16):
        kernel = np.exp(-((at[part, None] - x) ** 2) / (2 * step)) / math.sqrt(2 * math.pi * step)
        found[part] = np.trapezoid(kernel * density, x, axis=1)
    return found


def _solve(x: np.ndarray | None, density: np.ndarray | None, spend: float, t: float, step: float) -> float:
    """The boundary of B(t) that spends so much more: P(not crossed before, B(t) above it)."""
    if x is None or density is None:
        return -_NORMAL.inv_cdf(spend) * math.sqrt(t)
    low, high = 0.0, 8 * math.sqrt(t)
    tail = np.vectorize(math.erfc)
    for _ in range(45):
        middle = 0.5 * (low + high)
        above = 0.5 * np.trapezoid(density * tail((middle - x) / math.sqrt(2 * step)), x)
        low, high = (middle, high) if above > spend else (low, middle)
    return 0.5 * (low + high)
