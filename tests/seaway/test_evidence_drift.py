"""PSI and KS against another implementation, and their null quantiles by simulation."""

import numpy as np
import pytest
from scipy import stats

from seaway.evidence import drift


@pytest.mark.parametrize(("n", "m"), [(100, 1000), (300, 300), (2000, 500)])
def test_about_one_in_twenty_exceeds_its_null_quantile(n, m):
    rng, runs = np.random.default_rng(n), 1500
    over = {"psi": 0, "ks": 0}
    for _ in range(runs):
        a, b = rng.beta(1, 8, n), rng.beta(1, 8, m)
        for name, result in (("psi", drift.psi(a, b)), ("ks", drift.ks(a, b))):
            over[name] += result[name] > result["null_95"]
    assert 0.03 <= over["psi"] / runs <= 0.07
    assert 0.025 <= over["ks"] / runs <= 0.065


def test_the_usual_limit_fires_on_healthy_small_samples():
    rng = np.random.default_rng(0)
    found = [drift.psi(rng.normal(size=100), rng.normal(size=1000)) for _ in range(500)]
    assert 0.25 < np.mean([f["psi"] > 0.1 for f in found]) < 0.5
    assert found[0]["null_95"] > 0.15


def test_ks_is_scipys():
    rng = np.random.default_rng(1)
    for _ in range(20):
        a, b = rng.normal(size=rng.integers(1, 200)).round(1), rng.normal(0.3, size=rng.integers(1, 200)).round(1)
        assert drift.ks(a, b)["ks"] == pytest.approx(stats.ks_2samp(a, b).statistic)


def test_psi_by_hand_and_the_chi_square_quantile():
    result = drift.psi([0.1, 0.9] * 50, [0.1] * 150 + [0.9] * 50, bins=2)
    e, a = np.array([50.5, 50.5]) / 101, np.array([150.5, 50.5]) / 201
    assert result["psi"] == pytest.approx(((a - e) * np.log(a / e)).sum())
    assert (result["n"], result["m"]) == (100, 200)
    for degrees in (1, 2, 5, 9, 50):
        assert drift._chi_square_95(degrees) == pytest.approx(stats.chi2.ppf(0.95, degrees), rel=0.03)


def test_a_shift_is_seen_and_odd_samples_are_no_trouble():
    rng = np.random.default_rng(2)
    a, b = rng.beta(1, 8, 2000), rng.beta(1, 5, 2000)
    for result, name in ((drift.psi(a, b), "psi"), (drift.ks(a, b), "ks")):
        assert result[name] > 2 * result["null_95"]
    for odd in ([], [0.5], [0.5] * 10):
        for result in (drift.psi(odd, a), drift.psi(a, odd), drift.ks(odd, a), drift.ks(a, odd)):
            assert all(np.isfinite(v) for v in result.values())
    with pytest.raises(ValueError, match="finite"):
        drift.psi([float("nan")], a)
