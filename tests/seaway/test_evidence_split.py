"""The split's evidence: enumerated, simulated, quick on the known faults, and against an independent library."""

import itertools
import json
import math

import numpy as np
import pytest

from seaway.evidence import split
from seaway.evidence.split import Split


def binomial(n, p):
    return np.array([math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)])


@pytest.mark.parametrize(("share", "tolerance"), [(0.1, 0.02), (0.5, 0.02), (1.0, 0.02), (0.05, 0.05), (0.3, 0.0)])
def test_mean_of_a_block_is_at_most_one_by_enumeration(share, tolerance):
    tight = 0.0
    for p in np.clip([share - tolerance, share, share + tolerance], 0, 1):
        for n in (1, 4, 9):
            gains = np.array([split.increments(Split(tolerance), n, k, share) for k in range(n + 1)])
            mean = binomial(n, p) @ np.exp(gains)
            assert (mean <= 1 + 1e-9).all()
            tight = max(tight, mean.max())
    assert tight > 0.999
    beyond = min(1.0, share + tolerance + 0.2) if share < 1 else 0.5
    gains = np.array([split.increments(Split(tolerance), 9, k, share) for k in range(10)])
    assert (binomial(9, beyond) @ np.exp(gains)).max() > 1.2


def test_mean_over_blocks_with_moving_shares_and_late_starts_is_one():
    worlds, rule = [(1.0, split.new_state())], Split(0.02)
    for n, share in [(4, 0.1), (3, 0.5), (4, 0.25)]:
        worlds = [
            (w * binomial(n, share + 0.02)[k], split.update(s, rule, n, k, share))
            for (w, s), k in itertools.product(worlds, range(n + 1))
        ]
        mean = sum(w * math.exp(split.log_e(s)) for w, s in worlds)
        assert 0.9 < mean <= 1 + 1e-9


def test_sessions_that_stick_together_are_allowed_for():
    n, size, p = 4, 3, 0.12
    gains = [split.increments(Split(0.02, size), size * n, size * k, 0.1) for k in range(n + 1)]
    tempered = binomial(n, p) @ np.exp(np.array(gains) / size)
    assert (tempered <= 1 + 1e-9).all()
    assert (binomial(n, p) @ np.exp(np.array(gains))).max() > 1.1
    once = split.update(split.new_state(), Split(0.02), 60, 20, 0.1)
    stuck = split.update(split.new_state(), Split(0.02, 3), 60, 20, 0.1)
    assert split.log_e(stuck) < split.log_e(once)


def blocks_until(rng, told, served, limit, *, n=20, most=3000):
    state = split.new_state()
    for i in range(most):
        share, p = (told(i), served(i)) if callable(told) else (told, served)
        state = split.update(state, Split(0.02), n, int(rng.binomial(n, p)), share)
        if split.log_e(state) >= limit:
            return i + 1
    return None


@pytest.mark.parametrize(
    ("told", "served", "requests"), [(1.0, 0.5, 20), (0.0, 0.5, 20), (0.1, 0.2, 600), (0.5, 0.1, 60)]
)
def test_known_faults_are_caught_within_some_hundred_requests(told, served, requests):
    rng = np.random.default_rng(4)
    found = [blocks_until(rng, told, served, math.log(1000)) * 20 for _ in range(50)]
    assert np.median(found) <= requests


def test_a_gateway_that_goes_wrong_late_is_caught():
    rng = np.random.default_rng(5)
    found = [
        blocks_until(rng, lambda i: 0.1, lambda i: 0.1 if i < 1000 else 0.3, math.log(1000)) - 1000 for _ in range(10)
    ]
    assert all(0 < f <= 30 for f in found)  # 600 requests, after 20,000 good ones


@pytest.mark.parametrize("off", [-0.02, 0.0, 0.02])
def test_a_split_as_told_is_rarely_blamed(off):
    rng = np.random.default_rng(6)

    def told(i):
        return (0.05, 0.1, 0.25, 0.5)[min(i // 10, 3)]

    blamed = [
        blocks_until(rng, told, lambda i: told(i) + off, math.log(20), n=40, most=50) is not None for _ in range(200)
    ]
    assert np.mean(blamed) <= 0.05 + 2.6 * math.sqrt(0.05 * 0.95 / 200)


def test_state_is_plain_and_impossible_counts_are_refused():
    state = split.update(split.new_state(), Split(0.02), 10, np.int64(3), 0.25)
    assert json.loads(json.dumps(state)) == state
    assert split.update(state, Split(0.02), 0, 0, 0.25) == state
    assert split.log_e(split.new_state()) == pytest.approx(0)
    for n, k, share in [(1, 2, 0.5), (1, -1, 0.5), (1, 0, 1.1), (1, 0, -0.1), (1, 0, float("nan"))]:
        with pytest.raises(ValueError, match="impossible split"):
            split.update(state, Split(0.02), n, k, share)


def test_against_savvi():
    """Our products, averaged over savvi's Beta prior of the alternative, are its multinomial Bayes factor."""
    savvi = pytest.importorskip(
        "savvi.multinomial",
        reason="savvi is not installed: uv run --with savvi pytest (100 MB of solvers, so no dependency)",
    )
    share, rng = 0.3, np.random.default_rng(8)
    theirs = savvi.Multinomial(0.05, np.array([share, 1 - share]), k=20)
    t = (np.arange(20000) + 0.5) / 20000
    prior = 20 * share * np.log(t) + 20 * (1 - share) * np.log1p(-t) - np.log(t * (1 - t))
    prior = np.exp(prior - prior.max())
    logs = np.zeros_like(t)
    for _ in range(6):
        k = int(rng.binomial(15, 0.5))
        theirs.update(np.array([k, 15 - k]))
        logs += split.product(15, k, share, t)
        assert np.log(np.average(np.exp(logs), weights=prior)) == pytest.approx(math.log(theirs.odds), abs=1e-3)
