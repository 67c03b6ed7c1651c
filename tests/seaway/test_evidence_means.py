"""The bounds that `seaway.evidence.means` promises: enumerated, simulated, and against an independent library."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seaway.evidence import means
from seaway.evidence.means import Bound


def e_values(bound, values):
    return np.exp(means.log_e(means.update(means.new_state(), bound, values)))


def law_with_mean(points, mean, tilt):
    """Chances of three points (low, middle, high) with this mean; ``tilt`` in 0..1 moves mass to the ends."""
    low, middle, high = points
    ends = tilt * min((mean - low) / (high - low), (high - mean) / (high - low)) * 2
    # mass ends split so that its own mean is `mean`, the rest on the two neighbours of `mean`
    up = (mean - low) / (high - low)
    law = np.array([(1 - up) * ends, 0.0, up * ends])
    a, b = (0, 1) if mean <= middle else (1, 2)
    share = (mean - points[a]) / (points[b] - points[a])
    law[a] += (1 - ends) * (1 - share)
    law[b] += (1 - ends) * share
    return law


@pytest.mark.parametrize(
    "bound", [Bound(0.1, 0.02, 0.0, 1.0), Bound(0.05, 0.0), Bound(0.02), Bound(0.3, 0.0, 0.0, 1.0)]
)
def test_mean_is_at_most_one_by_enumeration(bound):
    """Each value's law may depend on the one before: at the null's edge the mean of E is 1, inside it is less."""
    points = [bound.low, 0.5 * (bound.low + bound.high) + 0.05, bound.high]
    for which, edge in ((0, bound.margin), (1, bound.tolerance)):
        inside = edge + 0.05 if which == 0 else max(bound.low, edge - 0.05)
        total = {"edge": 0.0, "inside": 0.0}
        for path in itertools.product(range(3), repeat=3):
            e = e_values(bound, [points[i] for i in path])[which]
            for where, mean in (("edge", edge), ("inside", inside)):
                chance, last = 1.0, 1
                for i in path:
                    chance *= law_with_mean(points, mean, tilt=last / 3)[i]
                    last = i
                total[where] += chance * e
        assert total["edge"] == pytest.approx(1.0, abs=1e-9)
        assert total["inside"] <= 1 + 1e-9


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30), st.integers(0, 29), st.randoms(use_true_random=False))
def test_order_and_batches_do_not_matter_and_the_state_is_plain(values, cut, random):
    bound, mixed = Bound(0.1, 0.02), list(values)
    random.shuffle(mixed)
    once = means.update(means.new_state(), bound, values)
    parts = means.update(means.update(means.new_state(), bound, mixed[:cut]), bound, mixed[cut:])
    assert json.loads(json.dumps(parts)) == parts
    assert parts["n"] == once["n"]
    assert means.log_e(parts) == pytest.approx(means.log_e(once), abs=1e-9)


def crossings(bound, draw, which, runs=2000, batches=40, batch=25, seed=0):
    """Share of runs in which E ever reaches 20 at the end of a batch, and its lower 99 % Wilson limit."""
    rng, over = np.random.default_rng(seed), 0
    for _ in range(runs):
        state = means.new_state()
        for i in range(batches):
            state = means.update(state, bound, draw(rng, i, batch))
            if means.log_e(state)[which] >= math.log(20):
                over += 1
                break
    p, z = over / runs, 2.576
    low = (p + z * z / (2 * runs) - z * math.sqrt(p * (1 - p) / runs + z * z / (4 * runs**2))) / (1 + z * z / runs)
    return p, low


@pytest.mark.parametrize("which", [0, 1])
def test_ever_crossing_under_the_null_is_rare(which):
    """Flips at the null's edge, rare losses with skew, and a mean that drifts inside the null."""
    sign = 1 if which == 0 else -1  # the margin from above, the tolerance from below

    def flips(rng, _, n):
        return rng.random(n) < (0.05 if which == 0 else 0.02)

    def skewed(rng, _, n):
        hit = rng.random(n) < 0.02
        return np.where(hit, sign * rng.choice([0.9, -0.45], n), 0.0) + (0.05, 0.02)[which] - sign * 0.0045

    def drifting(rng, i, n):
        mean = (0.05, 0.02)[which] + sign * 0.02 * (1 + math.sin(i))
        return np.clip(rng.normal(mean, 0.2, n), mean - 0.5, mean + 0.5)

    for draw, low in ((flips, 0.0), (skewed, -1.0), (drifting, -1.0)):
        _, lower = crossings(Bound(0.05, 0.02, low, 1.0), draw, which, runs=400)
        assert lower <= 0.05


def test_power():
    rng = np.random.default_rng(2)
    good = means.update(means.new_state(), Bound(0.05, 0.025, 0, 1), rng.random(1000) < 0.01)
    bad = means.update(means.new_state(), Bound(0.05, 0.025, 0, 1), rng.random(1000) < 0.1)
    assert means.log_e(good)[0] > math.log(20) and means.log_e(good)[1] < 0
    assert means.log_e(bad)[1] > math.log(20) and means.log_e(bad)[0] < 0


@pytest.mark.parametrize("kind", ["values", "state"])
def test_the_confidence_sequence_covers_at_all_times(kind):
    rng, missed, runs, mean = np.random.default_rng(7), 0, 150, 0.03
    for _ in range(runs):
        values = rng.random(600) < mean
        for n in (5, 20, 60, 120, 250, 400, 600):
            data = values[:n]
            if kind == "state":
                data = means.update(means.new_state(), Bound(0.5, 0.5, 0, 1), data)
            lower, upper = means.confidence(data, 0.2, 0, 1)
            if not lower <= mean <= upper:
                missed += 1
                break
    assert missed <= 0.2 * runs + 3 * math.sqrt(runs * 0.16)


def test_the_confidence_sequence_narrows_and_the_state_gives_a_wider_one():
    rng = np.random.default_rng(3)
    values, last = rng.beta(2, 30, 4000), 1.0
    for n in (50, 500, 4000):
        exact = means.confidence(values[:n], 0.05, 0, 1)
        state = means.update(means.new_state(), Bound(0.5, 0.5, 0, 1), values[:n])
        sums = means.confidence(state, 0.05, 0, 1)
        assert sums[0] <= exact[0] + 1e-9 and exact[1] <= sums[1] + 1e-9
        assert exact[1] - exact[0] < last
        last = exact[1] - exact[0]
        assert sums[1] - sums[0] < 3 * last
    assert last < 0.02
    assert means.confidence([], 0.05, 0, 1) == (0, 1)
    assert means.confidence(means.new_state(), 0.05, -1, 1) == (-1, 1)


def test_nothing_overflows_and_nothing_impossible_is_taken():
    state = means.update(means.new_state(), Bound(0.1, 0.0, 0, 1), np.ones(10**6))
    assert all(math.isfinite(v) for v in means.log_e(state))
    assert means.update(state, Bound(0.1, 0.0, 0, 1), []) == state
    for bad in ([1.1], [-0.1], [float("nan")], [float("inf")]):
        with pytest.raises(ValueError, match="values must lie"):
            means.update(state, Bound(0.1, 0.0, 0, 1), bad)
        with pytest.raises(ValueError, match="values must lie"):
            means.confidence(bad, 0.05, 0, 1)
    with pytest.raises(ValueError, match="need low"):
        Bound(0.1, 0.2)


WITHOUT = (
    "confseq is not installed (no wheel; needs numpy < 2). Its betting module is pure Python: unpack the sdist of "
    "0.0.11, install 'numpy<2' scipy matplotlib multiprocess hypothesis pytest, run with PYTHONPATH=confseq-0.0.11/src"
)


def test_against_confseq():
    """The wealth of each bet equals confseq's; the interval is about as wide as its betting confidence sequence."""
    betting = pytest.importorskip("confseq.betting", reason=WITHOUT)
    x = np.random.default_rng(11).beta(1, 20, 400)
    bound = Bound(0.08, 0.04, 0, 1)
    state = means.update(means.new_state(), bound, x)
    for j, bet in enumerate(means.BETS):
        for name, m, theta in (("promote", 0.08, 0), ("rollback", 0.04, 1)):
            size = bet / (1 - m if theta == 0 else m)
            fixed = lambda v, _, size=size: np.full(len(v), size)  # noqa: E731
            theirs = betting.betting_mart(
                x, m, lambdas_fn_positive=fixed, lambdas_fn_negative=fixed, theta=theta, trunc_scale=1.0
            )
            assert state[name][j] == pytest.approx(math.log(theirs[-1]), rel=1e-9)
    lower, upper = betting.betting_cs(x, alpha=0.05, breaks=1000)
    ours = means.confidence(x, 0.05, 0, 1)
    assert abs(ours[0] - lower[-1]) < 0.01 and abs(ours[1] - upper[-1]) < 0.01
    assert ours[1] - ours[0] < 1.3 * (upper[-1] - lower[-1])
