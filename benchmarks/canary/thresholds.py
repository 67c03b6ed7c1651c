"""Gates that compare the canary with constants: Argo Rollouts and Flagger, as documented and tuned.

Tuned means by someone who knows the stable's rates, the margin and the traffic: thresholds half-way to the margin,
our ramp, and the least number of allowed failures with which 97 % of the good canaries pass, computed from binomials.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from benchmarks.canary.cells import DECIDED, DECISION_MARGIN, MARGIN, SLOW, STABLE, Block, Cell
from benchmarks.canary.gates import PROMOTED, RAMP, ROLLED_BACK, Gate

WANTED = 0.97  # of the good canaries are to pass the tuned thresholds


@dataclass(frozen=True)
class Check:
    """A constant that the canary's share of a signal is compared with."""

    signal: str
    limit: float
    above: bool = True  # fails above the limit; else below

    def failed(self, n: np.ndarray, k: np.ndarray) -> np.ndarray:
        return (n > 0) & ((k > self.limit * n) if self.above else (k < self.limit * n))


def _tuned_checks(cell: Cell) -> list[Check]:
    """Half-way between the stable's rate and the rate that is not to be promoted."""
    found = [Check("errors", STABLE + MARGIN / 2)]
    if "latency" in cell.guardrails:
        found.append(Check("latency", SLOW + MARGIN / 2))
    if "decisions_up" in cell.guardrails:
        found.append(Check("decisions", DECIDED + DECISION_MARGIN / 2))
        found.append(Check("decisions", DECIDED - DECISION_MARGIN / 2, above=False))
    return found


class Argo(Gate):
    """AnalysisRun: a measurement each interval; more than failureLimit failures of a metric abort."""

    name, weights, step_minutes, windows = "Argo, documented", (20, 40, 60, 80), 10, 2

    def __init__(self, cell: Cell, runs: int, seed: tuple[int, ...] = (0,)) -> None:
        super().__init__(cell, runs)
        self.minute = 0
        self.checks, self.limits = self.settings(cell)
        self.rows = {"n": np.zeros((runs, len(self.checks))), "k": np.zeros((runs, len(self.checks)))}
        self.rows["failed"] = np.zeros((runs, len(self.checks)), dtype=int)
        self.alive = runs

    def settings(self, cell: Cell) -> tuple[list[Check], np.ndarray]:
        return [Check("errors", 0.05)], np.array([3])

    def share(self) -> np.ndarray:
        weight = self.weights[self.minute // self.step_minutes] / 100
        return np.full(len(self.cause), weight)

    def step(self, block: Block, minute: int) -> np.ndarray:
        self.minute, rows = minute, self.rows
        for i, check in enumerate(self.checks):
            rows["n"][:, i] += block.counts[check.signal][2]
            rows["k"][:, i] += block.counts[check.signal][3]
        if minute % (self.step_minutes // self.windows):
            return np.zeros(len(self.cause), dtype=int)
        for i, check in enumerate(self.checks):
            rows["failed"][:, i] += check.failed(rows["n"][:, i], rows["k"][:, i])
        rows["n"], rows["k"] = np.zeros_like(rows["n"]), np.zeros_like(rows["k"])
        ended = PROMOTED if minute >= self.step_minutes * len(self.weights) else 0
        return np.where((rows["failed"] > self.limits).any(axis=1), ROLLED_BACK, ended)


class ArgoTuned(Argo):
    """Our ramp, the midpoint as threshold, steps of 10 minutes (30 at 1/s), the least sufficient failureLimit."""

    name, weights = "Argo, tuned", RAMP

    def settings(self, cell: Cell) -> tuple[list[Check], np.ndarray]:
        self.step_minutes = 30 if cell.rate == 1 else 10
        checks = _tuned_checks(cell)
        window = self.step_minutes // self.windows
        limits = []
        for check in checks:
            failing = [
                _failing(check, cell.rate * 60 * window * w / 100) for w in self.weights for _ in range(self.windows)
            ]
            limits.append(_tuned_limits(failing, WANTED ** (1 / len(checks))))
        return checks, np.array(limits)


class Flagger(Gate):
    """Each interval: all checks pass, and the weight grows; a number of failed checks rolls back."""

    name, interval, most, grow = "Flagger, documented", 1, 50, 5

    def __init__(self, cell: Cell, runs: int, seed: tuple[int, ...] = (0,)) -> None:
        super().__init__(cell, runs)
        self.checks, self.threshold = self.settings(cell)
        self.rows = {"weight": np.full(runs, self.grow), "failed": np.zeros(runs, dtype=int)}
        self.rows |= {name: np.zeros((runs, len(self.checks))) for name in ("n", "k")}

    def settings(self, cell: Cell) -> tuple[list[Check], int]:
        latency = [Check("latency", 0.01)] if "latency" in cell.guardrails else []  # p99 within the objective
        return [Check("errors", 0.01), *latency], 10

    def share(self) -> np.ndarray:
        return self.rows["weight"] / 100

    def step(self, block: Block, minute: int) -> np.ndarray:
        rows = self.rows
        for i, check in enumerate(self.checks):
            rows["n"][:, i] += block.counts[check.signal][2]
            rows["k"][:, i] += block.counts[check.signal][3]
        if minute % self.interval:
            return np.zeros(len(self.cause), dtype=int)
        failed = np.zeros(len(self.cause), dtype=bool)
        for i, check in enumerate(self.checks):
            failed |= check.failed(rows["n"][:, i], rows["k"][:, i]) | (rows["n"][:, i] == 0)
        rows["n"], rows["k"] = np.zeros_like(rows["n"]), np.zeros_like(rows["k"])
        rows["failed"] = rows["failed"] + failed
        last = rows["weight"] >= self.most
        rows["weight"] = np.where(failed, rows["weight"], np.minimum(rows["weight"] + self.grow, self.most))
        return np.where(rows["failed"] >= self.threshold, ROLLED_BACK, np.where(last & ~failed, PROMOTED, 0))


class FlaggerTuned(Flagger):
    """The midpoint as threshold, 4-minute intervals (10 at 1 request/s), the least sufficient number of failures."""

    name = "Flagger, tuned"

    def settings(self, cell: Cell) -> tuple[list[Check], int]:
        self.interval = 10 if cell.rate == 1 else 4
        checks = _tuned_checks(cell)
        passing = []
        for weight in range(self.grow, self.most + 1, self.grow):
            n = cell.rate * 60 * self.interval * weight / 100
            passing.append(math.prod(1 - _failing(check, n) for check in checks))
        return checks, _tuned_threshold(passing)


def _failing(check: Check, n: float) -> float:
    """The chance that a canary as good as the stable fails a check on n requests."""
    p = {"errors": STABLE, "latency": SLOW, "decisions": DECIDED}[check.signal]
    n = max(1, round(n))
    cut = check.limit * n
    k = np.arange(math.floor(cut) + 1 if check.above else math.ceil(cut))
    gamma = np.vectorize(math.lgamma)
    logs = gamma(n + 1.0) - gamma(k + 1.0) - gamma(n - k + 1.0) + k * math.log(p) + (n - k) * math.log1p(-p)
    at_most = float(np.exp(logs).sum())
    return 1 - at_most if check.above else at_most


def _tuned_limits(failing: list[float], wanted: float) -> int:
    """The least failureLimit with which a good canary passes with the wanted chance."""
    chances = np.array([1.0])
    for f in failing:
        chances = np.convolve(chances, [1 - f, f])
    return int(np.searchsorted(np.cumsum(chances), wanted))


def _tuned_threshold(passing: list[float]) -> int:
    """The same for failed checks that keep the weight where it is: a sum of geometric waits."""
    chances = np.zeros(400)
    chances[0] = 1.0
    for q in passing:
        chances = np.convolve(chances, q * (1 - q) ** np.arange(400))[:400]
    return int(np.searchsorted(np.cumsum(chances), WANTED)) + 1
