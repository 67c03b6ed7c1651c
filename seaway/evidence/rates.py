"""Anytime-valid evidence about the difference of two rates, from blocks of two Bernoulli arms.

Two opposite questions run side by side on every guardrail; p_s and p_c are the stable's and the
canary's rate of the unwanted outcome:

    promote    null: p_c - p_s >= margin       "the canary is worse by the margin or more"
    roll back  null: p_c - p_s <= tolerance    "the canary is not worse (by more than the tolerance)"

Each null has an e-process E: a running product, 1 at the start, whose mean under every point of its
null is at most 1 at any stopping time. Ville's inequality then bounds the chance that E ever reaches
1/alpha by alpha, whatever the schedule of looks, ramp steps, restarts or stops.

One block (Turner, Ly and Gruenwald, "Generic E-variables for exact sequential k-sample tests that allow
for optional stopping", JSPI 2024, arXiv:2106.02693; any convex null: arXiv:2203.09785). Given n_s, n_c
requests, k_s, k_c unwanted ones, and an alternative (t_s, t_c) chosen before the block from the past,

    (x, y) = argmin over the null of  n_s KL(t_s || x) + n_c KL(t_c || y)
    log E += k_s ln(t_s/x) + (n_s-k_s) ln((1-t_s)/(1-x)) + k_c ln(t_c/y) + (n_c-k_c) ln((1-t_c)/(1-y))

Proof sketch. A request of the stable with rate p multiplies E by a non-negative factor of mean
1 + a_s (p - x), a_s = (t_s - x)/(x (1-x)); likewise the canary's with a_c and y. With independent
requests the mean of the product is the product of the means, by AM-GM at most (1 + m/n)^n with n = n_s
+ n_c and m = n_s a_s (mean p_s - x) + n_c a_c (mean p_c - y). Minus m is the derivative of the convex
objective from (x, y) towards (mean p_s, mean p_c); at the minimum it is not negative for any point of
the null, so m <= 0. Rates may differ from request to request and drift from block to block, and the
split between the arms may change freely: only the *mean* rates of a block have to lie in the null.

Assumptions: within a block, given its sizes, the outcomes are independent, and the sizes do not depend
on the block's own outcomes. Errors that come in clusters within one arm break the first one; there the
bound is optimistic (count such errors once).

Alternatives are plug-in estimates, so they only affect power. Each process is the equal-weight mean of
one product per alternative, which is again an e-process (a mean of e-processes).

The projection is found numerically; the derivative g left at the point found makes m at most |g|, so
|g| is subtracted from log E and the bound holds without rounding the proof.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from seaway.evidence import mixing

COUNTS = ("n_s", "k_s", "n_c", "k_c")
STRENGTH = 100.0  # the prior guess of the rate counts as much as so many requests
_EDGE = 1e-12
_PLUG_IN_EDGE = 1e-5
_ENOUGH = 1e-7  # of the derivative; what is left is charged to the evidence


@dataclass(frozen=True)
class Rail:
    """The two nulls of one guardrail, and the rate guessed before any data (power only, not validity)."""

    margin: float
    tolerance: float = 0.0
    guess: float | None = None  # None: a quarter of the margin
    cluster: int | None = None  # outcomes that may depend on each other; None: estimated

    @property
    def prior(self) -> float:
        return self.margin / 4 if self.guess is None else self.guess


def new_state(shape: tuple[int, ...] = ()) -> dict[str, Any]:
    """No data: both e-values are 1. A plain record of numbers and lists; with a shape, of arrays for so many runs."""
    start = float(np.log(mixing.AT_ONCE))
    if not shape:
        return {**dict.fromkeys(COUNTS, 0), "spread": [0.0] * 2, "promote": [0.0] * 5, "rollback": [start] * 6}
    return {
        **{name: np.zeros(shape) for name in COUNTS},
        "spread": np.zeros((*shape, 2)),
        "promote": np.zeros((*shape, 5)),
        "rollback": np.full((*shape, 6), start),
    }


def update(state: dict[str, Any], rail: Rail, n_s: int, k_s: int, n_c: int, k_c: int) -> dict[str, Any]:
    """The state after one more block. Pure; ``state`` is not changed.

    Raises ValueError unless 0 <= k <= n in both arms (the caller decides what a bad count means).
    """
    if not (0 <= k_s <= n_s and 0 <= k_c <= n_c):
        raise ValueError(f"impossible counts: stable {k_s} of {n_s}, canary {k_c} of {n_c}")
    if n_s + n_c == 0:
        return state
    after = update_many(state, rail, n_s, k_s, n_c, k_c)
    whole = {name: int(after[name]) for name in COUNTS}
    return {**whole, **{name: after[name].tolist() for name in ("spread", "promote", "rollback")}}


def update_many(state: dict[str, Any], rail: Rail, n_s: Any, k_s: Any, n_c: Any, k_c: Any) -> dict[str, Any]:
    """`update` for arrays (runs,), of a state from ``new_state((runs,))``; counts are not checked."""
    block = [np.asarray(v, dtype=np.float64) for v in (n_s, k_s, n_c, k_c)]
    past = [np.asarray(state[name], dtype=np.float64) for name in COUNTS]
    phi = dispersion(state, rail)
    gain = increments(rail, past, block) / phi[..., None]
    now = [a + b for a, b in zip(past, block, strict=True)]
    return {
        **dict(zip(COUNTS, now, strict=True)),
        "spread": np.asarray(state["spread"]) + _spread(rail, past, block),
        "promote": np.asarray(state["promote"]) + gain[..., :5],
        "rollback": mixing.grown(np.asarray(state["rollback"]), gain[..., 5:], past[2], now[2]),
    }


def log_e(state: dict[str, Any]) -> tuple[Any, Any]:
    """Natural logarithms of (E_promote, E_rollback): numbers, or arrays (runs,)."""
    promote = mixing.log_mean_exp(np.asarray(state["promote"]))
    rollback = mixing.log_total(np.asarray(state["rollback"]), np.asarray(state["n_c"]))
    return (promote, rollback) if promote.ndim else (float(promote), float(rollback))


def dispersion(state: dict[str, Any], rail: Rail) -> np.ndarray:
    """The cluster size used for the next block, (runs,): the rail's, or an estimate from earlier blocks."""
    spread = np.asarray(state["spread"], dtype=np.float64)
    if rail.cluster is not None:
        return np.full(spread.shape[:-1], float(max(1, rail.cluster)))
    return np.maximum(1.0, (spread[..., 0] + 2 * 1.0) / (spread[..., 1] + 1.0))


def _spread(rail: Rail, past: Any, block: Any) -> np.ndarray:
    n_s, k_s, n_c, k_c = block
    k, n = k_s + k_c, np.maximum(n_s + n_c, 1.0)
    share = n_c / n
    return np.stack([(k_c - k * share) ** 2, k * share * (1 - share)], axis=-1)


def alternatives(rail: Rail, past: Any) -> tuple[np.ndarray, np.ndarray]:
    """(t_s, t_c), each (..., 11): 5 alternatives of the promote process, then 6 of the rollback process.

    ``past`` is (n_s, k_s, n_c, k_c) summed over the blocks before this one, numbers or arrays (...).
    """
    n_s, k_s, n_c, k_c = (np.asarray(v, dtype=np.float64) for v in past)
    t_s = (k_s + STRENGTH * rail.prior) / (n_s + STRENGTH)
    own = (k_c + STRENGTH * rail.prior) / (n_c + STRENGTH)
    good = [0.7 * t_s, t_s, t_s + rail.margin / 4, t_s + rail.margin / 2, own]
    base = t_s + rail.tolerance
    bad = [1.5 * base, 2 * base, 3 * base, 6 * base, 12 * base, np.maximum(own, base)]
    t_c = np.stack(good + bad, axis=-1)
    t_s = np.broadcast_to(t_s[..., None], t_c.shape)
    return np.clip(t_s, _PLUG_IN_EDGE, 1 - _PLUG_IN_EDGE), np.clip(t_c, _PLUG_IN_EDGE, 1 - _PLUG_IN_EDGE)


def increments(rail: Rail, past: Any, block: Any) -> np.ndarray:
    """What one block (n_s, k_s, n_c, k_c) adds to each log product: (..., 11), in the order of `alternatives`."""
    t_s, t_c = alternatives(rail, past)
    sign = np.array([1.0] * 5 + [-1.0] * 6)  # the null is sign * (p_c - p_s) >= sign * limit
    limit = np.array([rail.margin] * 5 + [rail.tolerance] * 6)
    counts = [np.asarray(v, dtype=np.float64)[..., None] for v in block]
    return block_log_e(*counts, t_s, t_c, limit, sign)


def block_log_e(
    n_s: np.ndarray,
    k_s: np.ndarray,
    n_c: np.ndarray,
    k_c: np.ndarray,
    t_s: np.ndarray,
    t_c: np.ndarray,
    limit: np.ndarray,
    sign: np.ndarray,
) -> np.ndarray:
    """The log e-variable of one block, for broadcastable arrays; 0 where the alternative lies in the null.

    The null is ``sign * (p_c - p_s - limit) >= 0``; t_s and t_c must lie strictly between 0 and 1.
    """
    empty = n_s + n_c == 0
    inside = (sign * (t_c - t_s - limit) >= 0) | empty
    x, y, slack = _project(n_s + empty, n_c, t_s, t_c, limit, ~inside)
    value = (
        k_s * np.log(t_s / x)
        + (n_s - k_s) * np.log((1 - t_s) / (1 - x))
        + k_c * np.log(t_c / y)
        + (n_c - k_c) * np.log((1 - t_c) / (1 - y))
        - slack
    )
    return np.where(inside, 0.0, value)


def _project(
    n_s: np.ndarray, n_c: np.ndarray, t_s: np.ndarray, t_c: np.ndarray, limit: np.ndarray, wanted: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The nearest point on the line y = x + limit, and how far the optimality condition is missed there.

    Newton steps on the derivative g, which is increasing in x, kept inside a bracket that always holds the root.
    """
    low_end, high_end = np.maximum(0.0, -limit) + _EDGE, np.minimum(1.0, 1.0 - limit) - _EDGE
    a, b = np.minimum(t_s, t_c - limit), np.maximum(t_s, t_c - limit)
    low, high = np.clip(a, low_end, high_end), np.clip(b, low_end, high_end)
    near = np.clip(t_s + limit, _EDGE, 1 - _EDGE)  # first guess: the quadratic approximation's minimum
    w_s, w_c = n_s / (t_s * (1 - t_s)), n_c / (near * (1 - near))
    x = np.clip((w_s * t_s + w_c * (t_c - limit)) / (w_s + w_c), low, high)
    for _ in range(60):
        y = x + limit
        x1, y1 = 1 - x, 1 - y
        g = n_s * (x - t_s) / (x * x1) + n_c * (y - t_c) / (y * y1)
        if not (wanted & (np.abs(g) > _ENOUGH) & (high - low > 1e-15)).any():
            break
        low, high = np.where(g < 0, x, low), np.where(g > 0, x, high)
        curve = n_s * (t_s / (x * x) + (1 - t_s) / (x1 * x1)) + n_c * (t_c / (y * y) + (1 - t_c) / (y1 * y1))
        step = x - g / curve
        x = np.where((step >= low) & (step <= high), step, 0.5 * (low + high))
    y = x + limit
    g = n_s * (x - t_s) / (x * (1 - x)) + n_c * (y - t_c) / (y * (1 - y))
    # at an end of the segment only one direction leads into it: there a derivative of the right sign is fine
    slack = np.where(x <= low_end * (1 + 1e-9), np.maximum(-g, 0), np.abs(g))
    slack = np.where(x >= high_end, np.maximum(g, 0), slack)
    return x, y, slack
