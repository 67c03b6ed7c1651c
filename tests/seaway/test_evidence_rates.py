"""The bounds that `seaway.evidence` promises, checked exactly where that is possible and by simulation."""

import itertools
import json
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seaway.evidence import dispersion, mixing, rates
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


def wilson_low(k, n, z=2.576):
    """Lower end of the 99 % interval of a share."""
    p = k / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n)


def bursts(rng, n, p, size):
    """Errors in bursts of geometric size, ``size`` on average."""
    count = rng.poisson(n * p / size)
    return np.minimum(n, np.where(count > 0, count + rng.negative_binomial(np.maximum(count, 1), 1 / size), 0))


def simulate(p_s, p_c, rail, *, runs=2000, blocks=80, rate=30, seed=0, outage=None, lose=0.0, burst=1, onset=0):
    """Share of runs in which E_promote and E_rollback ever reach 20, and the median block of the rollback."""
    rng = np.random.default_rng(seed)
    state, top, first = rates.new_state((runs,)), np.full((2, runs), -np.inf), np.full(runs, blocks)
    for block in range(blocks):
        n = rng.poisson(rate, runs)
        n_c = rng.binomial(n, (0.1, 0.25, 0.5)[min(2, block // 15)])
        factor = outage if outage and 30 <= block < 40 else 1.0
        p = [min(1.0, v * factor) for v in (p_s, p_c if block >= onset else p_s)]
        draw = (lambda m, q: bursts(rng, m, q, burst)) if burst > 1 else rng.binomial
        keep = rng.random(runs) >= lose
        counts = [np.where(keep, v, 0) for v in (n - n_c, draw(n - n_c, p[0]), n_c, draw(n_c, p[1]))]
        state = rates.update_many(state, rail, *counts)
        top = np.maximum(top, rates.log_e(state))
        first = np.where((top[1] >= math.log(20)) & (first == blocks), block + 1, first)
    promoted, rolled_back = (top >= math.log(20)).sum(axis=1)
    return promoted / runs, rolled_back / runs, float(np.median(first))


def at_most_5_percent(share, runs=2000):
    return wilson_low(share * runs, runs) <= 0.05


@pytest.mark.parametrize("cluster", [None, 1])
@pytest.mark.parametrize("p_s", [0.0, 0.005, 0.1])
def test_a_canary_at_the_margin_is_rarely_promoted(p_s, cluster):
    assert at_most_5_percent(simulate(p_s, p_s + 0.02, Rail(0.02, cluster=cluster))[0])


@pytest.mark.parametrize(("p_s", "p_c", "tolerance"), [(0.005, 0.005, 0.0), (0.1, 0.1, 0.0), (0.05, 0.06, 0.01)])
def test_a_good_canary_is_rarely_rolled_back(p_s, p_c, tolerance):
    for cluster in (None, 1):
        assert at_most_5_percent(simulate(p_s, p_c, Rail(0.02, tolerance, cluster=cluster))[1])


def test_an_outage_of_both_and_lost_looks_do_not_break_the_bounds():
    assert at_most_5_percent(simulate(0.005, 0.005, Rail(0.02), outage=10.0, lose=0.2)[1])
    assert at_most_5_percent(simulate(0.005, 0.025, Rail(0.02), outage=10.0, lose=0.2)[0])


@pytest.mark.parametrize("rate", [100, 1000])
def test_errors_in_bursts_do_not_break_the_bounds(rate):
    rail, settings_ = Rail(0.005), {"rate": rate, "burst": 3, "blocks": 100}
    assert at_most_5_percent(simulate(0.005, 0.010, rail, **settings_)[0])
    assert at_most_5_percent(simulate(0.005, 0.005, rail, **settings_)[1])


def test_without_the_estimate_bursts_break_the_bounds():
    """The check above can fail: treated as independent, the same errors promote and roll back far too often."""
    rail, settings_ = Rail(0.005, cluster=1), {"rate": 1000, "burst": 3, "blocks": 100}
    assert simulate(0.005, 0.010, rail, **settings_)[0] > 0.08
    assert simulate(0.005, 0.005, rail, **settings_)[1] > 0.08


def test_power():
    promoted, rolled_back, _ = simulate(0.002, 0.002, Rail(0.02), runs=300)
    assert promoted >= 0.97 and rolled_back <= 0.05
    promoted, rolled_back, _ = simulate(0.002, 0.05, Rail(0.02), runs=300)
    assert rolled_back >= 0.99 and promoted <= 0.02


def test_late_harm_is_found_about_as_fast_as_early_harm():
    early = simulate(0.005, 0.05, Rail(0.02), runs=300, rate=200)[2]
    late = simulate(0.005, 0.05, Rail(0.02), runs=300, rate=200, onset=60)[2] - 60
    assert 0 < late <= early + 3


def test_a_canary_that_fails_outright_goes_in_one_block():
    state = rates.update(rates.new_state(), Rail(0.005), 570, 3, 30, 30)
    assert rates.log_e(state)[1] > math.log(6 / 0.05)
    burst = rates.update(rates.new_state(), Rail(0.005), 570, 3, 30, 8)
    assert rates.log_e(burst)[1] < math.log(20)


def test_clean_requests_prove_a_margin_and_more_of_them_where_clusters_are_possible():
    needed = {}
    for cluster in (1, 3, None):
        state, rail, needed[cluster] = rates.new_state(), Rail(0.02, cluster=cluster), 0
        while rates.log_e(state)[0] < math.log(20):
            state, needed[cluster] = rates.update(state, rail, 50, 0, 10, 0), needed[cluster] + 10
        assert rates.log_e(state)[1] <= 0
    assert needed[1] <= 200 < needed[None] <= needed[3] <= 3 * 200


@pytest.mark.parametrize(("cluster", "least"), [(1, 0.75), (2, 0.5), (None, 0.5)])
@pytest.mark.parametrize("which", [0, 1])
def test_mean_over_blocks_is_at_most_one_with_late_starts_and_estimated_clusters(which, cluster, least):
    """All outcomes of three blocks are enumerated; the rates lie at the edge of the null."""
    rail = Rail(0.1, guess=0.3, cluster=cluster)
    p_s, p_c = 0.3, 0.4 if which == 0 else 0.3
    worlds = [(1.0, rates.new_state())]
    for n_s, n_c in [(3, 3), (2, 4), (4, 2)]:
        law_s, law_c = poisson_binomial([p_s] * n_s), poisson_binomial([p_c] * n_c)
        worlds = [
            (weight * law_s[k_s] * law_c[k_c], rates.update(state, rail, n_s, k_s, n_c, k_c))
            for weight, state in worlds
            for k_s, k_c in itertools.product(range(n_s + 1), range(n_c + 1))
        ]
        mean = sum(w * math.exp(rates.log_e(s)[which]) for w, s in worlds)
        assert least < mean <= 1 + 1e-9
    assert sum(w for w, _ in worlds) == pytest.approx(1)


def test_the_masses_of_all_start_times_sum_to_one():
    """With blocks that bring no evidence E stays exactly 1, however many requests were seen."""
    weights = np.array([0.7, 0.3])
    logs, seen = mixing.begun(weights), 0
    for gained in (0, 1, 30, 5000, 10**7):
        logs = mixing.grown(logs, np.zeros(2), weights, seen, seen + gained)
        seen += gained
        assert mixing.log_total(logs, seen) == pytest.approx(0, abs=1e-12)
    assert mixing.waiting(0) == 0.5  # immediate harm costs ln 2


@pytest.mark.parametrize("size", [2, 3])
def test_mean_is_at_most_one_for_outcomes_that_depend_on_each_other_within_groups(size):
    """All groups enumerated: each is all bad or all good (the worst dependence); untempered the mean exceeds 1."""
    groups_s, groups_c, broken = 3, 2, 0.0
    for limit, sign, t_s, t_c in [(0.1, 1, 0.2, 0.2), (0.1, 1, 0.3, 0.1), (0.0, -1, 0.1, 0.4), (0.05, -1, 0.2, 0.6)]:
        for p_s in (0.05, 0.2, 0.5, 0.7):
            p_c = p_s + limit
            law = np.outer(poisson_binomial([p_s] * groups_s), poisson_binomial([p_c] * groups_c))
            k_s, k_c = np.meshgrid(size * np.arange(groups_s + 1), size * np.arange(groups_c + 1), indexing="ij")
            args = [np.array(float(v)) for v in (t_s, t_c, limit, sign)]
            logs = rates.block_log_e(
                np.array(float(size * groups_s)), k_s, np.array(float(size * groups_c)), k_c, *args
            )
            assert (law * np.exp(logs / size)).sum() <= 1 + 1e-9
            broken = max(broken, float((law * np.exp(logs)).sum()))
    assert broken > 1.1


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(0.01, 0.99), min_size=4, max_size=4),
    st.floats(0.01, 0.99),
    st.floats(0.01, 0.99),
    st.floats(0, 0.4),
    st.sampled_from([1, -1]),
    st.randoms(use_true_random=False),
)
def test_mean_is_at_most_one_for_any_law_within_groups_of_two(rate, t_s, t_c, limit, sign, random):
    """Two pairs an arm; a pair's law is any with its margins (drawn between the Frechet bounds)."""
    if sign * (np.mean(rate[2:]) - np.mean(rate[:2]) - limit) < 0:
        return

    def pair(p):  # chances of 0, 1, 2 bad ones
        both = random.uniform(max(0.0, 2 * p - 1), p)
        return [1 - 2 * p + both, 2 * (p - both), both]

    stable, canary = np.convolve(pair(rate[0]), pair(rate[1])), np.convolve(pair(rate[2]), pair(rate[3]))
    k_s, k_c = np.meshgrid(np.arange(5), np.arange(5), indexing="ij")
    args = [np.array(float(v)) for v in (t_s, t_c, limit, sign)]
    logs = rates.block_log_e(np.array(4.0), k_s, np.array(4.0), k_c, *args)
    assert (np.outer(stable, canary) * np.exp(logs / 2)).sum() <= 1 + 1e-9


@pytest.mark.parametrize(
    ("rate", "burst", "outage", "low", "high"),
    [
        (0.005, 1, 1, 1.0, 1.3),
        (0.3, 1, 1, 1.0, 1.3),
        (0.005, 1, 10, 1.0, 1.5),
        (0.005, 3, 1, 4.0, 6.0),
        (0.2, 3, 1, 3.5, 6.0),
    ],
)
def test_the_dispersion_of_independent_and_of_clustered_errors(rate, burst, outage, low, high):
    """D is 1 for independent outcomes, rare or not, through a common outage too; (2 - p)/p = 5 for these bursts."""
    rng, state = np.random.default_rng(5), rates.new_state((300,))
    for block in range(100):
        p = rate * (outage if 30 <= block < 40 else 1)
        k = bursts(rng, np.full((2, 300), 300), p, burst) if burst > 1 else rng.binomial(300, p, (2, 300))
        state = rates.update_many(state, Rail(0.005), 300, k[0], 300, k[1])
    found = np.median(dispersion.exponent(state["spread"], 2.0)) ** (1 / dispersion._POWER)
    assert low <= found <= high, found


def test_a_block_is_tempered_by_earlier_blocks_only():
    state = rates.new_state()
    for k in (3, 0, 9, 1):
        state = rates.update(state, Rail(0.005), 500, k, 100, 0)
    quiet, loud = (rates.update(state, Rail(0.005), 500, 2, 100, k) for k in (0, 12))
    gain = rates.increments(Rail(0.005), [state[c] for c in rates.COUNTS], np.array(state["spread"]), (500, 2, 100, 12))
    assert np.allclose(np.array(loud["promote"]) - state["promote"], gain[:5])
    assert dispersion.exponent(np.array(loud["spread"]), 1.0) > dispersion.exponent(np.array(quiet["spread"]), 1.0)


def test_many_runs_at_once_are_the_same_as_one_by_one():
    rng, rail = np.random.default_rng(3), Rail(0.005, 0.001)
    many, single = rates.new_state((2500,)), {i: rates.new_state() for i in (0, 999, 1000, 2499)}
    for _ in range(12):
        n_s, n_c = rng.poisson(500, 2500), rng.poisson(3, 2500)
        k_s, k_c = rng.binomial(n_s, 0.01), rng.binomial(n_c, 0.1)
        many = rates.update_many(many, rail, n_s, k_s, n_c, k_c)
        for i in single:
            single[i] = rates.update(single[i], rail, int(n_s[i]), int(k_s[i]), int(n_c[i]), int(k_c[i]))
    for i, state in single.items():
        assert [float(v[i]) for v in rates.log_e(many)] == pytest.approx(rates.log_e(state), abs=1e-12)
        assert many["spread"][i] == pytest.approx(state["spread"])


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


def test_against_savvi():
    """An independent test of equal rates (Lindon and Malek) agrees on which canary is worse, at a like sample size."""
    savvi = pytest.importorskip(
        "savvi.multinomial",
        reason="savvi is not installed (120 MB of solvers, so no dependency); install it beside and run this file",
    )
    for p_c, found in ((0.15, True), (0.02, False)):
        rng, rail = np.random.default_rng(2), Rail(0.1, cluster=1)
        theirs = savvi.InhomogeneousBernoulliProcess(
            0.05, np.array([0.5, 0.5]), lambda delta: [delta[0] == delta[1]], np.array([[-1.0, 1.0]]), k=10
        )
        state, when = rates.new_state(), [None, None]
        for block in range(1, 31):
            k_s, k_c = rng.binomial(50, 0.02), rng.binomial(50, p_c)
            state = rates.update(state, rail, 50, k_s, 50, k_c)
            if when[1] is None:
                theirs.update(np.array([k_s, k_c]))
            when[0] = when[0] or (block if rates.log_e(state)[1] >= math.log(20) else None)
            when[1] = when[1] or (block if theirs.odds >= 20 else None)
        assert [w is not None for w in when] == [found, found]
        assert not found or max(when) <= 2 * min(when) + 2
