"""How far outcomes come in clusters: the over-dispersion of earlier blocks, which tempers the evidence of the next.

Errors seldom come alone: a retry storm, one bad caller, a full queue. If a burst of m errors counts as m independent
ones, evidence is overstated about m-fold. D, the ratio of the observed to the independent variance, is pooled over
blocks from two numbers that are both blind to what the canary's rate is:

    between the arms   (k_c - k pi)^2 against k pi (1 - pi): given k errors in both arms, how many are the canary's;
                       pi = n_c r / (n_c r + n_s), r = ratio of the arms' rates so far. An outage common to both
                       arms raises k and leaves this alone.
    within the stable  (k_s - k_s' n_s/n_s')^2 against k_s + k_s' (n_s/n_s')^2, k_s' of the block before. An outage
                       adds two jumps, its begin and its end, and each is cut off at `_JUMP` times the variance.

Both variances are multiplied by 1 - p, p the rate so far. For bursts that hit one arm both ratios have the mean
D = E[size^2] / E[size]; for independent outcomes D = 1.
(McCullagh and Nelder, Generalized Linear Models, 4.5: the pooled ratio is the usual dispersion estimate.)

What holds before enough errors were seen: D starts at a prior that weighs as much as `_PRIOR_ERRORS` errors and
`_PRIOR_BLOCKS` typical blocks together (a block gives one degree of freedom, however many errors it has). Promotion
starts from D = 2, since it can wait; rollback starts from 1.

The exponent used is phi = max(1, D)^1.4: D is noisy when clusters are few, and a value too low costs error, one too
high costs time. At D = 1 the power changes nothing.

What is exact: with independent outcomes any phi >= 1 known before the block keeps the bound (Jensen), so a wrong
estimate costs time only. What is approximate: with clusters of unknown size the bound rests on the estimate; that it
holds at bursts of geometric size is shown by simulation (tests, benchmarks), not proved. Clusters that last longer
than a block are seen only in part: use longer blocks there, or `Rail.cluster`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

SIZE = 5  # sums of: squares, their independent mean, its square; the stable's last block: n, k
_PRIOR_ERRORS, _PRIOR_BLOCKS = 3.0, 2.0
_POWER = 1.4
_JUMP = 16.0
_WITHIN = 1 / 3  # successive differences share a block: 2/3 of the weight, over a variance of two blocks
_SMOOTH = 2.0  # errors added to both sides of the ratio of rates


def exponent(spread: np.ndarray, prior: float) -> np.ndarray:
    """phi of the next block, at least 1, from ``spread`` (..., SIZE)."""
    squares, expected, expected2 = spread[..., 0], spread[..., 1], spread[..., 2]
    weight = _PRIOR_ERRORS + _PRIOR_BLOCKS * expected2 / np.maximum(expected, 1e-9)
    return np.maximum(1.0, (squares + prior * weight) / (expected + weight)) ** _POWER


def learnt(spread: np.ndarray, total: Any, block: Any) -> np.ndarray:
    """``spread`` after a block; ``total`` and ``block`` are (n_s, k_s, n_c, k_c), the block included in the total."""
    n_s, k_s, n_c, k_c = block
    ratio = (total[3] + _SMOOTH) / (total[1] * total[2] / np.maximum(total[0], 1.0) + _SMOOTH)
    share = n_c * ratio / np.maximum(n_c * ratio + n_s, 1e-9)
    fine = 1 - (total[1] + total[3]) / np.maximum(total[0] + total[2], 1.0)  # outcomes that are not rare vary less
    between = _cut(4 * (k_c - (k_s + k_c) * share) ** 2, 4 * (k_s + k_c) * share * (1 - share) * fine)
    last_n, last_k = spread[..., 3], spread[..., 4]
    scale = np.where(last_n > 0, n_s / np.maximum(last_n, 1.0), 0.0)
    met = (scale > 0) * _WITHIN
    within = _cut(met * (k_s - last_k * scale) ** 2, met * (k_s + last_k * scale * scale) * fine)
    return np.stack(
        [
            spread[..., 0] + between[0] + within[0],
            spread[..., 1] + between[1] + within[1],
            spread[..., 2] + between[1] ** 2 + within[1] ** 2,
            np.where(n_s > 0, n_s, last_n),
            np.where(n_s > 0, k_s, last_k),
        ],
        axis=-1,
    )


def _cut(square: np.ndarray, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.minimum(square, _JUMP * expected), expected
