"""The bounds that `seaway.evidence` promises, checked exactly where that is possible and by simulation."""

import itertools
import json
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seaway.evidence import mixing, rates
from seaway.evidence.rates import Rail

RATES = [0.0, 0.01, 0.1, 0.3, 0.5, 0.8, 0.95, 1.0]


def poisson_binomial(rates):
    """Probabilities of 0..n successes of independent trials with these rates."""
    law = np.array([1.0])
    for p in rates:
        law = np.convolve(law, [1 - p, p])
    return law


def mean_e(stable, canary, t_s, t_c, limit, sign):
    """E[e-value] of one block by enumeration; `stable` and `canary` are the rates of single requests."""
    n_s, n_c = len(stable), len(canary)
    k_s, k_c = np.meshgrid(np.arange(n_s + 1), np.arange(n_c + 1), indexing="ij")
    args = [np.array(float(v)) for v in (t_s, t_c, limit, sign)]
    values = rates.block_log_e(np.array(float(n_s)), k_s, np.array(float(n_c)), k_c, *args)
    law = np.outer(poisson_binomial(stable), poisson_binomial(canary))
    return float((law * np.exp(values)).sum())


@pytest.mark.parametrize(("limit", "sign"), [(0.02, 1), (0.3, 1), (0.0, -1), (0.05, -1), (0.0, 1)])
def test_mean_is_at_most_one_at_every_point_of_a_grid_of_the_null(limit, sign):
    shapes = [(0, 4), (4, 0), (1, 1), (5, 2), (2, 6)]
    alternatives = [(1e-5, 1e-5), (0.01, 0.008), (0.2, 0.1), (0.3, 0.9), (0.9, 0.3), (1 - 1e-5, 0.5)]
    checked, largest = 0, 0.0
    for (n_s, n_c), (t_s, t_c), (p_s, p_c) in itertools.product(
        shapes, alternatives, itertools.product(RATES, [*RATES, None])
    ):
        p_c = min(1.0, p_s + limit) if p_c is None else p_c  # None: the edge of the null
        if sign * (p_c - p_s - limit) < -1e-12:
            continue
        mean = mean_e([p_s] * n_s, [p_c] * n_c, t_s, t_c, limit, sign)
        checked, largest = checked + 1, max(largest, mean)
        assert mean <= 1 + 1e-9, (n_s, n_c, t_s, t_c, p_s, p_c)
    assert checked > 500
    assert largest > 0.999  # the bound is tight, so the check could fail


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=6),
    st.lists(st.floats(0, 1), min_size=1, max_size=6),
    st.floats(1e-5, 1 - 1e-5),
    st.floats(1e-5, 1 - 1e-5),
    st.floats(0, 0.5),
    st.sampled_from([1, -1]),
)
def test_mean_is_at_most_one_when_rates_differ_within_a_block(stable, canary, t_s, t_c, limit, sign):
    if sign * (np.mean(canary) - np.mean(stable) - limit) < 0:
        return
    assert mean_e(stable, canary, t_s, t_c, limit, sign) <= 1 + 1e-9


def test_a_wrong_projection_would_be_noticed():
    """Using the alternative's own stable rate (no projection) breaks the bound: the oracle has teeth."""
    n, t_s, t_c, p = 6, 0.1, 0.4, 0.25
    k = np.arange(n + 1)
    law = np.outer(poisson_binomial([p] * n), poisson_binomial([p] * n))
    naive = (t_c / t_s) ** k * ((1 - t_c) / (1 - t_s)) ** (n - k)
    assert (law * naive[None, :]).sum() > 1.5


def test_projection_is_the_nearest_point_of_the_null():
    rng = np.random.default_rng(1)
    for _ in range(200):
        n_s, n_c = rng.integers(1, 200, 2).astype(float)
        t_s, t_c = rng.uniform(1e-5, 0.3, 2)
        limit = rng.uniform(0, 0.1)
        x, _, slack = rates._project(n_s, n_c, t_s, t_c, np.array(limit), np.array(True))
        grid = np.linspace(1e-9, 1 - limit - 1e-9, 20001)

        def cost(v, n_s=n_s, n_c=n_c, t_s=t_s, t_c=t_c, limit=limit):
            y = v + limit
            return -n_s * (t_s * np.log(v) + (1 - t_s) * np.log1p(-v)) - n_c * (
                t_c * np.log(y) + (1 - t_c) * np.log1p(-y)
            )

        assert cost(x) <= cost(grid).min() + 1e-7
        assert 0 <= slack < 1e-3


def simulate(p_s, p_c, rail, *, runs=2000, blocks=80, rate=30, seed=0, outage=None, lose=0.0):
    """Share of runs in which ln E_promote and ln E_rollback ever reach ln 20, and final (n_c mean)."""
    rng = np.random.default_rng(seed)
    past = [np.zeros(runs) for _ in range(4)]
    logs, top = np.zeros((runs, 11)), np.full((runs, 2), -np.inf)
    for block in range(blocks):
        weight = (0.1, 0.25, 0.5)[min(2, block // 15)]
        n = rng.poisson(rate, runs)
        n_c = rng.binomial(n, weight)
        factor = outage if outage and 30 <= block < 40 else 1.0
        k_s, k_c = (rng.binomial(m, min(1.0, p * factor if outage else p)) for m, p in ((n - n_c, p_s), (n_c, p_c)))
        keep = rng.random(runs) >= lose
        counts = [np.where(keep, v, 0) for v in (n - n_c, k_s, n_c, k_c)]
        logs += rates.increments(rail, past, counts)
        past = [a + b for a, b in zip(past, counts, strict=True)]
        now = np.stack([mixing.log_mean_exp(logs[:, :5]), rates.log_mean_exp(logs[:, 5:])], axis=1)
        top = np.maximum(top, now)
    return tuple((top >= math.log(20)).mean(axis=0))


@pytest.mark.parametrize("p_s", [0.0, 0.005, 0.1])
def test_a_canary_at_the_margin_is_rarely_promoted(p_s):
    promoted, _ = simulate(p_s, p_s + 0.02, Rail(0.02))
    assert promoted <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


@pytest.mark.parametrize(("p_s", "p_c", "tolerance"), [(0.005, 0.005, 0.0), (0.1, 0.1, 0.0), (0.05, 0.06, 0.01)])
def test_a_good_canary_is_rarely_rolled_back(p_s, p_c, tolerance):
    _, rolled_back = simulate(p_s, p_c, Rail(0.02, tolerance))
    assert rolled_back <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


def test_an_outage_of_both_and_lost_looks_do_not_break_the_bounds():
    _, rolled_back = simulate(0.005, 0.005, Rail(0.02), outage=10.0, lose=0.2)
    assert rolled_back <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


def test_power():
    promoted, rolled_back = simulate(0.002, 0.002, Rail(0.02), runs=300)
    assert promoted >= 0.99 and rolled_back <= 0.05
    promoted, rolled_back = simulate(0.002, 0.05, Rail(0.02), runs=300)
    assert rolled_back >= 0.99 and promoted <= 0.02


def test_two_hundred_clean_canary_requests_prove_a_margin_of_two_percent():
    state = rates.new_state()
    for _ in range(20):
        state = rates.update(state, Rail(0.02), 50, 0, 10, 0)
    assert rates.log_e(state)[0] >= math.log(20)
    assert rates.log_e(state)[1] <= 0


def test_state_is_plain_data_and_update_is_pure():
    state = rates.new_state()
    copy = json.loads(json.dumps(state))
    after = rates.update(state, Rail(0.02), 54, 1, 6, 0)
    assert state == copy
    assert json.loads(json.dumps(after)) == after
    assert rates.update(state, Rail(0.02), 0, 0, 0, 0) == state
    assert after == rates.update(copy, Rail(0.02), np.int64(54), 1, np.int64(6), 0)


@pytest.mark.parametrize("counts", [(-1, 0, 1, 0), (1, 2, 1, 0), (1, 0, 1, -1), (1, 0, 1, 2)])
def test_impossible_counts_are_refused(counts):
    with pytest.raises(ValueError, match="impossible counts"):
        rates.update(rates.new_state(), Rail(0.02), *counts)


def test_no_overflow_far_from_the_null():
    state = rates.new_state()
    for counts in [(10**9, 0, 10**9, 10**9), (10**9, 10**9, 10**9, 0), (1, 1, 0, 0), (0, 0, 1, 1)]:
        state = rates.update(state, Rail(0.02), *counts)
        assert all(math.isfinite(v) for v in rates.log_e(state))


def test_one_update_takes_less_than_a_millisecond():
    state, took = rates.new_state(), []
    for i in range(400):
        began = time.thread_time()
        state = rates.update(state, Rail(0.02), 54, int(i % 50 == 0), 6, 0)
        took.append(time.thread_time() - began)
    assert np.median(took) < 1e-3
