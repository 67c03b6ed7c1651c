"""How far two samples of scores are apart, with what chance alone gives at these sizes. Decides nothing.

A new model's scores should differ from the old one's, so equality is the wrong null for a release; and a fixed
limit such as "PSI > 0.1" fires on healthy small samples: with 10 bins, 100 and 1,000 scores of one distribution
exceed it in 38 % of the cases. So each number comes with its 95 % quantile under "no shift".

    PSI = sum over bins (a - e) ln(a / e), bins = quantiles of the expected sample
          no shift: about (1/n + 1/m) times chi-square with bins - 1 degrees of freedom (Yurdakul 2018)
    KS  = the largest distance of the two empirical distribution functions
          no shift: 95 % quantile about 1.358 sqrt(1/n + 1/m) (Smirnov 1948)
"""

from __future__ import annotations

from typing import Any

import numpy as np

_Z95, _KS95 = 1.6448536269514722, 1.3580986393225505


def psi(expected: Any, actual: Any, bins: int = 10) -> dict[str, float]:
    """{"psi", "null_95", "n", "m"}: n expected and m actual scores; 0 and 0 when one sample is empty.

    Half an observation is added to every bin of both samples, so an empty bin stays finite.
    """
    e, a = _sample(expected), _sample(actual)
    if not e.size or not a.size:
        return {"psi": 0.0, "null_95": 0.0, "n": e.size, "m": a.size}
    inner = np.unique(np.quantile(e, np.arange(1, bins) / bins))
    counts = [np.bincount(np.searchsorted(inner, s, side="left"), minlength=inner.size + 1) for s in (e, a)]
    keep = counts[0] + counts[1] > 0
    shares = [(c[keep] + 0.5) / (c[keep] + 0.5).sum() for c in counts]
    value = float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())
    null = (1 / e.size + 1 / a.size) * _chi_square_95(int(keep.sum()) - 1)
    return {"psi": value, "null_95": null, "n": e.size, "m": a.size}


def ks(a: Any, b: Any) -> dict[str, float]:
    """{"ks", "null_95", "n", "m"}; 0 and 0 when one sample is empty."""
    x, y = np.sort(_sample(a)), np.sort(_sample(b))
    if not x.size or not y.size:
        return {"ks": 0.0, "null_95": 0.0, "n": x.size, "m": y.size}
    points = np.concatenate([x, y])
    gap = np.searchsorted(x, points, side="right") / x.size - np.searchsorted(y, points, side="right") / y.size
    null = min(1.0, _KS95 * float(np.sqrt(1 / x.size + 1 / y.size)))
    return {"ks": float(np.abs(gap).max()), "null_95": null, "n": x.size, "m": y.size}


def _sample(values: Any) -> np.ndarray:
    v = np.asarray(values, dtype=np.float64).ravel()
    if not np.isfinite(v).all():
        raise ValueError("scores must be finite")
    return v


def _chi_square_95(degrees: int) -> float:
    """The 95 % quantile, by Wilson and Hilferty's cube root: within 1 % from one degree up (4 % at 1)."""
    if degrees < 1:
        return 0.0
    c = 2 / (9 * degrees)
    return float(degrees * (1 - c + _Z95 * np.sqrt(c)) ** 3)
