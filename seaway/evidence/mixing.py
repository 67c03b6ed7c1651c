"""What the e-processes share: means of products in logarithms, and the weights of their start times.

Late onset. A product that runs from the first block decays while nothing is wrong, and a fault that comes
later first has to win that back. So the products of a rollback are started at many times: let f(N) fall from
1/2 towards 0 in the number N of requests seen so far. A share of 1/2 starts at once; after a block that took N
from a to b another f(a) - f(b) starts. With S_j the mass of
alternative j that has started, and w_j its weight (they sum to 1),

    S_j <- S_j * factor_j(block) + w_j (f(a) - f(b)),        E = sum of the S_j + f(N).

Proof sketch. The weights of all starts sum to 1, and each is fixed before the block it starts with (f depends
on counts of requests, not on outcomes). A product that starts at block t is 1 before t and an e-process after
it, so E is a weighted mean of e-processes. Immediate harm costs ln 2 of evidence; harm after N requests costs
about ln(N/requests-to-detect) + 2 ln ln N instead of all that decayed. (Shin, Ramdas and Rinaldo, "E-detectors",
NEJSDS 2023, arXiv:2203.03532, start a process in every block too, with weights that bound run lengths instead.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

AT_ONCE = 0.5
_SCALE = 400.0  # requests: starts are densest before this many


def log_mean_exp(values: np.ndarray) -> np.ndarray:
    """ln(mean(exp(values))) over the last axis, without overflow."""
    top = values.max(axis=-1, keepdims=True)
    return (top + np.log(np.mean(np.exp(values - top), axis=-1, keepdims=True)))[..., 0]


def waiting(seen: np.ndarray) -> np.ndarray:
    """f: the share of the mass that has not started after so many requests."""
    return (1 - AT_ONCE) / (1 + np.log1p(np.asarray(seen, dtype=np.float64) / _SCALE))


def begun(weights: np.ndarray) -> np.ndarray:
    """ln S of each alternative before the first block; ``weights`` sum to 1."""
    return np.log(AT_ONCE * np.asarray(weights))


def grown(logs: np.ndarray, gain: np.ndarray, weights: np.ndarray, before: Any, after: Any) -> np.ndarray:
    """ln S of each alternative after a block; ``before`` and ``after`` are the requests seen, without the last axis."""
    starting = np.maximum(waiting(before) - waiting(after), 1e-300)[..., None] * weights
    return np.logaddexp(logs + gain, np.log(starting))


def log_total(logs: np.ndarray, seen: Any) -> np.ndarray:
    """ln E of a mixture over alternatives and start times."""
    return np.logaddexp(log_mean_exp(logs) + np.log(logs.shape[-1]), np.log(waiting(seen)))
