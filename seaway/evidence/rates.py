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

Assumptions: given its sizes, a block's outcomes are independent, or depend on each other only within
groups of at most phi requests; the sizes do not depend on the block's own outcomes.

Clusters. With groups of at most phi a block's e-variable is raised to 1/phi. Proof sketch: number the
requests of each group and let F_1 ... F_phi be the products of the factors with the same number; each has
one request of a group, so its mean is the product of its means. Hoelder: E[(F_1 ... F_phi)^(1/phi)] <=
(E[F_1] ... E[F_phi])^(1/phi), and the product of all means is at most 1 as above. So `Rail.cluster` = phi
makes the bound exact. Without it phi is estimated from earlier blocks (`dispersion`): still exact for
independent outcomes, since E[e^(1/phi)] <= E[e]^(1/phi) for any phi >= 1 fixed before the block (Jensen);
*approximate* for clusters of unknown size. Two more precautions then, both of which only make E smaller:
a block adds at most 0.7 (promote) or 1.5 (roll back) to ln E, so no single burst decides; and an
alternative at r times the rate is raised to 1 / (phi (1 + 0.28 ln r sqrt(1 - 1/phi))), as bursts of geometric
size have tails that a variance does not show (the factor keeps the mean of a compound Poisson count with
such bursts at most 1 for r <= 12, found numerically). One alternative, "(1 + p) / 2 of the canary's fail", is
without that limit but with phi >= 8, so a canary that fails outright goes in one block.
Measured at alpha 5 % for bursts of geometric size within an arm, rates 0.5 % and margin 0.5 points, 1 to 100
requests/s: false promotions and rollbacks at most 4 % at a mean size of 3, about 5 % at 5, up to 13 % at 10 (there
set ``cluster``).

Alternatives are plug-in estimates from earlier blocks, so they only affect power. The promote process is the
equal-weight mean of one product per alternative, the rollback process a weighted one with late starts
(`mixing`); both are e-processes, as means of e-processes.

The projection is found numerically; the derivative g left at the point found makes m at most |g|, so
|g| is subtracted from log E and the bound holds without rounding the proof.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from seaway.evidence import dispersion, mixing

COUNTS = ("n_s", "k_s", "n_c", "k_c")
STRENGTH = 100.0  # the prior guess of the rate counts as much as so many requests
_TIMES = (2.5, 7.0)  # the stable's rate: alternatives of the rollback process
_GOOD, _BAD = 5, len(_TIMES) + 2
_SIGN = np.array([1.0] * _GOOD + [-1.0] * _BAD)  # the null is sign * (p_c - p_s) >= sign * limit
_WEIGHTS = np.array([0.95 / (_BAD - 1)] * (_BAD - 1) + [0.05])  # the last: the canary fails grossly
_FIRST_UP, _FIRST_DOWN = 2.0, 1.0  # dispersion before any data
_MOST_UP, _MOST_DOWN = 0.7, np.array([1.5] * (_BAD - 1) + [np.inf])  # ln E that one block may bring
_GROSS = 8.0  # phi at least of the alternative without that limit, so a burst cannot pass for it
_TAIL = 0.28
_AT_A_TIME = 1000  # runs: their arrays fit the processor's cache, which halves the time
_EDGE = 1e-12
_PLUG_IN_EDGE = 1e-5
_ENOUGH = 1e-7  # of the derivative; what is left is charged to the evidence


@dataclass(frozen=True)
class Rail:
    """The two nulls of one guardrail, and the rate guessed before any data (power only, not validity)."""

    margin: float
    tolerance: float = 0.0
    guess: float | None = None  # None: a quarter of the margin
    cluster: int | None = None  # requests whose outcomes may depend on each other; 1: independent, None: estimated

    @property
    def prior(self) -> float:
        return self.margin / 4 if self.guess is None else self.guess


def new_state(shape: tuple[int, ...] = ()) -> dict[str, Any]:
    """No data: both e-values are 1. A plain record of numbers and lists; with a shape, of arrays for so many runs."""
    start = {"spread": np.zeros(dispersion.SIZE), "promote": np.zeros(_GOOD), "rollback": mixing.begun(_WEIGHTS)}
    if not shape:
        return {**dict.fromkeys(COUNTS, 0), **{name: v.tolist() for name, v in start.items()}}
    tiled = {name: np.broadcast_to(v, (*shape, v.size)).copy() for name, v in start.items()}
    return {**{name: np.zeros(shape) for name in COUNTS}, **tiled}


def update(state: dict[str, Any], rail: Rail, n_s: int, k_s: int, n_c: int, k_c: int) -> dict[str, Any]:
    """The state after one more block. Pure; ``state`` is not changed.

    Raises ValueError unless 0 <= k <= n in both arms (the caller decides what a bad count means).
    """
    if not (0 <= k_s <= n_s and 0 <= k_c <= n_c):
        raise ValueError(f"impossible counts: stable {k_s} of {n_s}, canary {k_c} of {n_c}")
    if n_s + n_c == 0:
        return state
    after = update_many(state, rail, n_s, k_s, n_c, k_c)
    whole = {name: state[name] + int(gained) for name, gained in zip(COUNTS, (n_s, k_s, n_c, k_c), strict=True)}
    return {**whole, **{name: after[name].tolist() for name in ("spread", "promote", "rollback")}}


def update_many(state: dict[str, Any], rail: Rail, n_s: Any, k_s: Any, n_c: Any, k_c: Any) -> dict[str, Any]:
    """`update` for arrays (runs,), of a state from ``new_state((runs,))``; counts are not checked."""
    block = [np.asarray(v, dtype=np.float64) for v in (n_s, k_s, n_c, k_c)]
    state = {name: np.asarray(v, dtype=np.float64) for name, v in state.items()}
    runs = block[0].size
    if runs <= _AT_A_TIME:
        return _updated(state, rail, block)
    parts = [slice(i, i + _AT_A_TIME) for i in range(0, runs, _AT_A_TIME)]
    done = [_updated({k: v[part] for k, v in state.items()}, rail, [v[part] for v in block]) for part in parts]
    return {name: np.concatenate([part[name] for part in done]) for name in state}


def _updated(state: dict[str, np.ndarray], rail: Rail, block: list[np.ndarray]) -> dict[str, np.ndarray]:
    past = [state[name] for name in COUNTS]
    gain = increments(rail, past, state["spread"], block)
    total = [a + b for a, b in zip(past, block, strict=True)]
    return {
        **dict(zip(COUNTS, total, strict=True)),
        "spread": dispersion.learnt(state["spread"], total, block),
        "promote": state["promote"] + gain[..., :_GOOD],
        "rollback": mixing.grown(state["rollback"], gain[..., _GOOD:], _WEIGHTS, past[2], total[2]),
    }


def log_e(state: dict[str, Any]) -> tuple[Any, Any]:
    """Natural logarithms of (E_promote, E_rollback): numbers, or arrays (runs,)."""
    promote = mixing.log_mean_exp(np.asarray(state["promote"], dtype=np.float64))
    rollback = mixing.log_total(np.asarray(state["rollback"], dtype=np.float64), state["n_c"])
    return (promote, rollback) if promote.ndim else (float(promote), float(rollback))


def alternatives(rail: Rail, past: Any) -> tuple[np.ndarray, np.ndarray]:
    """(t_s, t_c), each (..., 9): 5 alternatives of the promote process, then 4 of the rollback process.

    ``past`` is (n_s, k_s, n_c, k_c) summed over the blocks before this one, numbers or arrays (...).
    """
    n_s, k_s, n_c, k_c = (np.asarray(v, dtype=np.float64) for v in past)
    t_s = (k_s + STRENGTH * rail.prior) / (n_s + STRENGTH)
    own = (k_c + STRENGTH * rail.prior) / (n_c + STRENGTH)
    good = [0.7 * t_s, t_s, t_s + rail.margin / 4, t_s + rail.margin / 2, own]
    base = t_s + rail.tolerance
    bad = [*(times * base for times in _TIMES), np.maximum(own, base), (1 + base) / 2]
    t_c = np.stack(good + bad, axis=-1)
    t_s = np.broadcast_to(t_s[..., None], t_c.shape)
    return np.clip(t_s, _PLUG_IN_EDGE, 1 - _PLUG_IN_EDGE), np.clip(t_c, _PLUG_IN_EDGE, 1 - _PLUG_IN_EDGE)


def increments(rail: Rail, past: Any, spread: np.ndarray, block: Any) -> np.ndarray:
    """What one block (n_s, k_s, n_c, k_c) adds to each log product: (..., 9), in the order of `alternatives`."""
    t_s, t_c = alternatives(rail, past)
    limit = np.where(_SIGN > 0, rail.margin, rail.tolerance)
    counts = [np.asarray(v, dtype=np.float64)[..., None] for v in block]
    gain = block_log_e(*counts, t_s, t_c, limit, _SIGN)
    if rail.cluster is not None:
        return gain / max(1, rail.cluster)
    up = dispersion.exponent(spread, _FIRST_UP)[..., None]
    down = dispersion.exponent(spread, _FIRST_DOWN)[..., None]
    steep = np.log(np.maximum(t_c[..., _GOOD:] / (t_s[..., _GOOD:] + rail.tolerance), 1.0))
    down = down * (1 + _TAIL * steep * np.sqrt(1 - 1 / down))
    down[..., -1] = np.maximum(down[..., -1], _GROSS)
    return np.concatenate(
        [np.minimum(gain[..., :_GOOD] / up, _MOST_UP), np.minimum(gain[..., _GOOD:] / down, _MOST_DOWN)], axis=-1
    )


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

    The condition is a cubic in x whose middle root is the point (Farrington and Manning, Stat. Med. 1990); rounding
    is made good by Newton steps on the derivative g, which increases in x, inside a bracket that holds the root.
    """
    low_end, high_end = np.maximum(0.0, -limit) + _EDGE, np.minimum(1.0, 1.0 - limit) - _EDGE
    own, other = np.clip(t_s, low_end, high_end), np.clip(t_c - limit, low_end, high_end)
    low, high = np.minimum(own, other), np.maximum(own, other)
    x = np.clip(_root(n_s, n_c, t_s, t_c, limit), low, high)
    g = _derivative(n_s, n_c, t_s, t_c, x, x + limit)
    for _ in range(60):
        if not (wanted & (np.abs(g) > _ENOUGH) & (high - low > 1e-15)).any():
            break
        y = x + limit
        low, high = np.where(g < 0, x, low), np.where(g > 0, x, high)
        curve = n_s * (t_s / x**2 + (1 - t_s) / (1 - x) ** 2) + n_c * (t_c / y**2 + (1 - t_c) / (1 - y) ** 2)
        step = x - g / curve
        x = np.where((step >= low) & (step <= high), step, 0.5 * (low + high))
        g = _derivative(n_s, n_c, t_s, t_c, x, x + limit)
    # at an end of the segment only one direction leads into it: there a derivative of the right sign is fine
    slack = np.where(x <= low_end * (1 + 1e-9), np.maximum(-g, 0), np.abs(g))
    slack = np.where(x >= high_end, np.maximum(g, 0), slack)
    return x, x + limit, slack


def _derivative(
    n_s: np.ndarray, n_c: np.ndarray, t_s: np.ndarray, t_c: np.ndarray, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """Of n_s KL(t_s || x) + n_c KL(t_c || y) along y = x + limit."""
    return n_s * (x - t_s) / (x * (1 - x)) + n_c * (y - t_c) / (y * (1 - y))


def _root(n_s: np.ndarray, n_c: np.ndarray, t_s: np.ndarray, t_c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """The middle root of x^3 + 3 b x^2 + 3 p x + e, which is the derivative times x (1-x) y (1-y) over -n."""
    s = n_s / (n_s + n_c)
    c = 1 - s
    b = -(s * (1 - 2 * d + t_s) + c * (1 - d + t_c)) / 3
    p = -(s * (d * (1 - d) - t_s * (1 - 2 * d)) + c * (d - t_c)) / 3
    h = np.sqrt(np.maximum(b * b - p, 1e-30))
    turn = np.clip((b * (1.5 * p - b * b) - 0.5 * s * t_s * d * (1 - d)) / (h * h * h), -1, 1)
    return 2 * h * np.cos((2 * np.pi - np.arccos(turn)) / 3) - b
