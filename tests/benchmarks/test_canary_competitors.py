"""The other gates are what their documentation says, at the strength that it gives them."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from benchmarks.canary import cells, competitors, thresholds
from benchmarks.canary.gates import HELD, PROMOTED, ROLLED_BACK, play
from benchmarks.canary.spending import boundaries


def test_boundaries_are_the_published_ones():
    # Lan-DeMets O'Brien-Fleming, one-sided 2.5 %, five looks (Jennison and Turnbull 2000; gsDesign's sfLDOF)
    assert boundaries(5, 0.025) == pytest.approx([4.8769, 3.3569, 2.6803, 2.2898, 2.0310], abs=2e-3)
    assert boundaries(1, 0.05) == pytest.approx([NormalDist().inv_cdf(0.95)], abs=1e-6)


def cell(scenario, null, rate=10):
    return next(c for c in cells.sweep((rate,)) if (c.scenario, c.null) == (scenario, null))


def shares(gate, chosen, runs=400):
    result = play(gate(chosen, runs, (2,)), cells.World(chosen, runs, (2,)), (2, 1))
    return {v: float((result.verdict == v).mean()) for v in (PROMOTED, ROLLED_BACK, HELD)}, result


def test_the_documented_examples_let_bad_canaries_through():
    assert shares(competitors.Argo, cell("plain", "edge"))[0][PROMOTED] == 1
    found, result = shares(competitors.Flagger, cell("plain", "edge"))
    assert 0.55 < found[PROMOTED] < 0.85
    assert result.minute[result.verdict == PROMOTED].min() >= 10  # ten steps of 5 %, a minute each


def test_tuned_settings_pass_the_good_canaries_they_were_tuned_for():
    for gate in (competitors.ArgoTuned, competitors.FlaggerTuned):
        assert shares(gate, cell("plain", "good"), 1500)[0][PROMOTED] == pytest.approx(0.975, abs=0.02)


def test_a_check_fails_as_often_as_binomials_do():
    check = thresholds.Check("errors", 0.0075)
    k = np.random.default_rng(0).binomial(300, 0.005, 200_000)
    assert thresholds._failing(check, 300) == pytest.approx((k > 0.0075 * 300).mean(), abs=0.004)
    below = thresholds.Check("decisions", 0.015, above=False)
    k = np.random.default_rng(0).binomial(300, 0.02, 200_000)
    assert thresholds._failing(below, 300) == pytest.approx((k < 0.015 * 300).mean(), abs=0.004)


def test_peeking_inflates_and_planned_looks_do_not():
    peeked = shares(competitors.PeekedZ, cell("plain", "good"), 1500)[0][ROLLED_BACK]
    planned = shares(competitors.GroupSequential, cell("plain", "good"), 1500)[0][ROLLED_BACK]
    assert peeked > 0.15
    assert planned < 0.065


def test_the_asymptotic_sequence_ends_where_its_mixture_reaches_one_over_alpha():
    # the half-normal mixture of exp(l S - n l^2 / 2), integrated, at S = n times the half-width
    gate, alpha = competitors.AsymptoticSequence(cell("plain", "good"), 1), 0.05
    rho = math.sqrt((-2 * math.log(2 * alpha) + math.log(1 - 2 * math.log(2 * alpha))) / 5000)
    bets = np.linspace(0, 10 * rho, 200_001)
    prior = 2 * np.exp(-0.5 * (bets / rho) ** 2) / (rho * math.sqrt(2 * math.pi))
    for n in (500.0, 5_000.0, 50_000.0):
        edge = n * float(gate._half_width(np.array([n]), np.array([1 / n]), alpha)[0])
        wealth = np.trapezoid(np.exp(bets * edge - n * bets**2 / 2) * prior, bets)
        assert wealth == pytest.approx(1 / alpha, rel=0.12)
