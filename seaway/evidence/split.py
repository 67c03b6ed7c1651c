"""Whether the traffic is split as told: evidence against |p - share| <= tolerance.

p is the probability that a request goes to the canary, ``share`` what the gateway was told; it may change from
block to block. With k of n requests at the canary and b = share + tolerance (or share - tolerance for the other
side), each alternative t beyond b multiplies its product by

    (t / b)^k ((1 - t) / (1 - b))^(n - k)

Proof sketch. A request with probability p multiplies by a factor of mean 1 + (p - b)(t - b) / (b (1 - b)), at
most 1 for every p on the null's side of b; so it is for p that move within the null. Alternatives are b's odds
times or over fixed ratios, one process is the mean of all, started at many times (`mixing`), since a gateway may
go wrong late. (The two-sided Bernoulli case of Lindon and Malek, "Anytime-valid inference for multinomial count
data", NeurIPS 2022, arXiv:2011.03567, with a tolerance.)

Assumption: requests are routed independently of each other. Where up to g requests stick together (sessions,
connections) their products are raised to 1/g (``cluster``; Hoelder, see `rates`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from seaway.evidence import mixing

RATIOS = np.array([1.25, 1.6, 2.5, 5.0, 20.0])
_WEIGHTS = np.full(2 * len(RATIOS), 1 / (2 * len(RATIOS)))
_EDGE = 1e-4  # of a bound: nobody is told 0.01 %, so a bound nearer to 0 or 1 is no bound worth testing


@dataclass(frozen=True)
class Split:
    """How far the true share may be from the one told, and how many requests may be routed together."""

    tolerance: float
    cluster: int = 1


def new_state() -> dict[str, Any]:
    """No requests: the e-value is 1. A plain record; n and k are totals, told is the sum of n * share."""
    return {"n": 0, "k": 0, "told": 0.0, "logs": mixing.begun(_WEIGHTS).tolist()}


def update(state: dict[str, Any], split: Split, n: int, k: int, share: float) -> dict[str, Any]:
    """The state after a block in which ``k`` of ``n`` requests went to the canary that was told ``share`` (0..1)."""
    if not 0 <= k <= n or not 0 <= share <= 1:
        raise ValueError(f"impossible split: {k} of {n} requests at a share of {share}")
    if n == 0:
        return state
    gain = increments(split, n, k, share) / max(1, split.cluster)
    logs = mixing.grown(np.array(state["logs"]), gain, _WEIGHTS, state["n"], state["n"] + n)
    return {
        "n": state["n"] + int(n),
        "k": state["k"] + int(k),
        "told": state["told"] + float(n * share),
        "logs": logs.tolist(),
    }


def log_e(state: dict[str, Any]) -> float:
    """Natural logarithm of E; at least ln(1/alpha) with probability at most alpha while the split is as told."""
    return float(mixing.log_total(np.array(state["logs"]), state["n"]))


def increments(split: Split, n: int, k: int, share: float) -> np.ndarray:
    """What a block adds to each log product: (10,), five alternatives above the share, then five below."""
    both = []
    for sign in (1.0, -1.0):
        bound = share + sign * split.tolerance
        if not _EDGE < bound < 1 - _EDGE:
            both.append(np.zeros(len(RATIOS)))  # no share is beyond this end
            continue
        odds = bound / (1 - bound) * RATIOS**sign
        t = odds / (1 + odds)
        both.append(product(n, k, bound, t))
    return np.concatenate(both)


def product(n: int, k: int, bound: float, t: np.ndarray) -> np.ndarray:
    """ln of a block's factor for alternatives ``t`` beyond ``bound``."""
    return k * np.log(t / bound) + (n - k) * np.log((1 - t) / (1 - bound))
