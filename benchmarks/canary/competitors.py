"""Gates that others decide by, on the same canaries. See docs/canary-benchmark.md for the settings in words.

The three statistical ones ask our two questions, with our alphas, ramp and cap, of the totals of both arms.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from benchmarks.canary.cells import CAP, MARGIN, STABLE, Block, Cell
from benchmarks.canary.gates import ALPHA, HELD, PROMOTED, RAMP, ROLLED_BACK, Gate, rules, shortest
from benchmarks.canary.spending import boundaries
from benchmarks.canary.thresholds import WANTED, Argo, ArgoTuned, Flagger, FlaggerTuned
from serving.rollout.policy import STEP_REQUESTS
from serving.rollout.rules import GUARDRAILS


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
