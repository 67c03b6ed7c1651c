"""What others decide by, on the same canaries. See docs/canary-benchmark.md for the settings in words.

Argo Rollouts and Flagger compare the canary with constants: at their documentation's examples, and tuned by
someone who knows the stable's rates, the margin and the traffic (`_tuned_limits`). The three statistical gates ask
our two questions, with our alphas, ramp and cap, of the totals of both arms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from benchmarks.canary.cells import CAP, DECIDED, DECISION_MARGIN, MARGIN, SLOW, STABLE, Block, Cell
from benchmarks.canary.gates import ALPHA, HELD, PROMOTED, RAMP, ROLLED_BACK, Gate, rules, shortest
from benchmarks.canary.spending import boundaries
from serving.rollout.policy import STEP_REQUESTS
from serving.rollout.rules import GUARDRAILS

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


class Sequential(Gate):
    """Both questions asked of the totals; the ramp by requests alone."""

    def __init__(self, cell: Cell, runs: int, seed: tuple[int, ...] = (0,)) -> None:
        super().__init__(cell, runs)
        self.rails = rules(cell).rails
        self.alphas = (ALPHA, ALPHA / len(self.rails))  # to promote all must be proven, to roll back one
        self.rows = {"step": np.zeros(runs, dtype=int), "requests": np.zeros(runs, dtype=int)}
        self.rows["totals"] = {name: np.zeros((runs, 4)) for name in self.rails}

    def share(self) -> np.ndarray:
        return np.array(RAMP)[self.rows["step"]] / 100

    def step(self, block: Block, minute: int) -> np.ndarray:
        rows, good, bad = self.rows, True, False
        last = rows["step"] >= len(RAMP) - 1
        for name, rail in self.rails.items():
            signal, exchanged, _ = GUARDRAILS[name]
            n_s, k_s, n_c, k_c = block.counts[signal]
            both = (n_c, k_c, n_s, k_s) if exchanged else (n_s, k_s, n_c, k_c)
            rows["totals"][name] += np.stack(both, axis=-1)
            proven, harmed = self.asked(rows["totals"][name].T, rail.margin, rail.tolerance)
            good, bad = good & proven, bad | harmed
        rows["requests"] = rows["requests"] + block.counts["errors"][2]
        up = ~last & (rows["requests"] >= STEP_REQUESTS)
        rows["step"], rows["requests"] = rows["step"] + up, np.where(up, 0, rows["requests"])
        decided = np.where(bad, ROLLED_BACK, np.where(good & last, PROMOTED, 0))
        return np.where((decided == 0) & self.over(), HELD, decided)

    def asked(self, totals: np.ndarray, margin: float, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
        """(not worse by the margin, worse than the tolerance) from (n_s, k_s, n_c, k_c)."""
        raise NotImplementedError

    def over(self) -> np.ndarray | bool:
        """Where no more looks are planned."""
        return False


class PeekedZ(Sequential):
    """A z-test of each question at 5 %, looked at every minute."""

    name = "z, each minute"

    def asked(self, totals: np.ndarray, margin: float, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
        z = NormalDist().inv_cdf(1 - ALPHA)
        return _z(totals, margin) <= -z, _z(totals, tolerance) >= z


def _z(totals: np.ndarray, d: float) -> np.ndarray:
    """The score statistic of p_c - p_s = d, with the variance at the null's pooled rates."""
    n_s, k_s, n_c, k_c = totals
    n_s, n_c = np.maximum(n_s, 1), np.maximum(n_c, 1)
    p = np.clip((k_s + k_c - d * n_c) / (n_s + n_c), 0.5 / (n_s + n_c), 1)
    spread = p * (1 - p) / n_s + (p + d) * np.maximum(1 - p - d, 1e-9) / n_c
    return (k_c / n_c - k_s / n_s - d) / np.sqrt(spread)


class GroupSequential(Sequential):
    """Lan and DeMets' O'Brien-Fleming-like spending of each alpha over planned looks at equal information.

    The plan is for the power that our bar asks (97 %) at the known rates, or for what the cap leaves.
    """

    name, looks = "group-sequential", 5

    def __init__(self, cell: Cell, runs: int, seed: tuple[int, ...] = (0,)) -> None:
        super().__init__(cell, runs)
        normal = NormalDist().inv_cdf
        spread = STABLE * (1 - STABLE) + (STABLE + MARGIN) * (1 - STABLE - MARGIN)
        wanted = 1.03 * ((normal(1 - ALPHA) + normal(WANTED)) / MARGIN) ** 2 * spread / 2
        left = 60 * cell.rate * RAMP[-1] / 100 * (CAP - 2 - shortest(cell.rate)) / 2
        self.most = min(wanted, left)
        self.bounds = [np.array([*boundaries(self.looks, alpha), np.inf]) for alpha in self.alphas]
        self.rows["looked"] = np.zeros(runs, dtype=int)

    def step(self, block: Block, minute: int) -> np.ndarray:
        totals = self.rows["totals"]["errors"]
        n_s, n_c = totals[:, 0] + block.counts["errors"][0], totals[:, 2] + block.counts["errors"][2]
        information = n_s * n_c / np.maximum(n_s + n_c, 1)
        due = np.minimum((information * self.looks / self.most).astype(int), self.looks)
        self.now = np.where(due > self.rows["looked"], due - 1, self.looks)  # the last index: no look, no bound
        self.rows["looked"] = np.maximum(due, self.rows["looked"])
        return super().step(block, minute)

    def asked(self, totals: np.ndarray, margin: float, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
        promote, rollback = (bounds[self.now] for bounds in self.bounds)
        return _z(totals, margin) <= -promote, _z(totals, tolerance) >= rollback

    def over(self) -> np.ndarray:
        return self.rows["looked"] >= self.looks


class AsymptoticSequence(Sequential):
    """The asymptotic confidence sequence of Waudby-Smith et al. (arXiv:2103.06476), one-sided, tuned for n = 5,000
    as GrowthBook does by default; asked each minute. No answer while an arm has no unwanted outcome."""

    name, tuned_for = "asymptotic sequence", 5000

    def asked(self, totals: np.ndarray, margin: float, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
        n_s, k_s, n_c, k_c = totals
        n = n_s + n_c
        p_s, p_c = k_s / np.maximum(n_s, 1), k_c / np.maximum(n_c, 1)
        variance = p_s * (1 - p_s) / np.maximum(n_s - 1, 1) + p_c * (1 - p_c) / np.maximum(n_c - 1, 1)
        up, down = (self._half_width(n, variance, alpha) for alpha in self.alphas)
        some = (k_s > 0) & (k_c > 0)
        return some & (p_c - p_s + up < margin), some & (p_c - p_s - down > tolerance)

    def _half_width(self, n: np.ndarray, variance: np.ndarray, alpha: float) -> np.ndarray:
        """One-sided; ``variance`` is that of the difference, n the requests of both arms."""
        rho2 = (-2 * math.log(2 * alpha) + math.log(1 - 2 * math.log(2 * alpha))) / self.tuned_for
        return np.sqrt(variance * 2 * (n * rho2 + 1) / (n * rho2) * np.log1p(np.sqrt(n * rho2 + 1) / (2 * alpha)))


RIVALS = (Argo, ArgoTuned, Flagger, FlaggerTuned, PeekedZ, GroupSequential, AsymptoticSequence)
