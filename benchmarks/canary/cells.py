"""What happens to the canaries: cells of the sweep, and the traffic of many releases at once.

A cell is a scenario, a request rate and a truth. A ``World`` holds what all gates share: the requests of each
minute, outages, bursts, and the true rates. Each gate then gets its own split of them, as its weights ask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

CAP = 240  # minutes, and blocks
GRACE = 15  # minutes after it in which the policy waits for a clean look
STABLE, MARGIN = 0.005, 0.005
EDGE = STABLE + MARGIN
TRUTHS = (0.005, 0.010, 0.015, 0.030)
RATES = (1, 10, 100)  # requests a second
MIRROR = 0.2  # of the stable's requests that the shadow answers too, where pairs are compared
GROUP = 5  # requests that share one fate, in the cells with clustered errors
SLOW, DECIDED = 0.005, 0.02  # the stable's shares of slow answers and of positive decisions
DECISION_MARGIN, FLIP_MARGIN = 0.01, 0.02

_OUTAGE = {"points": 0.045, "minutes": 10}  # the stable fails ten times as often; the canary by as much more
_OUTAGE_BEFORE = {1: 60, 10: 15, 100: 5}  # it starts in one of the first so many minutes
_ONSET = {1: 40, 10: 8, 100: 3}  # minutes that the late canary is good


@dataclass(frozen=True)
class Cell:
    """One cell. ``truth`` is the canary's rate (errors unless the scenario says otherwise)."""

    scenario: str
    rate: int
    truth: float
    null: str  # "good", "edge" or "worse": which bar applies
    arms: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # signal -> (stable, canary)
    guardrails: tuple[str, ...] = ("errors",)
    flips: float | None = None  # share of pairs decided differently
    onset: int = 0  # minutes before which the canary is as the stable
    outage: bool = False
    group: int = 1
    bursts: bool = False
    guess: float | None = None  # of the stable's rate, given to our gate
    cluster: int | None = None  # the size of the groups, given to our gate
    restarts: float = 0.0  # a block, share of releases whose controller starts anew
    lost: float = 0.0  # a block and predictor, share of scrapes
    again: float = 0.0  # a block and predictor, share of scrapes that repeat the reading before
    resets: float = 0.0  # a block and predictor, share of counters that start at zero again
    rivals: bool = True  # the other gates see nothing special here
    barred: bool = True  # the bars apply; False: beyond what the gate is made for, shown all the same
    burst: tuple[float, float] = (0.05, 10.0)  # share of an arm's minutes, how many times the rate

    @property
    def name(self) -> str:
        return f"{self.scenario}, {self.rate}/s, {100 * self.truth:.1f} %"


def sweep(rates: tuple[int, ...] = RATES) -> list[Cell]:
    """All cells, the plain ones first."""
    cells = [cell for rate in rates for cell in _plain(rate)]
    for rate in rates:
        for truth, null in ((STABLE, "good"), (EDGE, "edge")):
            for name, special in (
                ("common outage", {"outage": True}),
                ("clustered errors", {"group": GROUP}),
                ("clustered errors, size told", {"group": GROUP, "cluster": GROUP, "rivals": False}),
                ("bursts", {"bursts": True}),
                ("groups of 20", {"group": 20, "barred": False}),
                ("rare, large bursts", {"bursts": True, "burst": (0.02, 50.0), "barred": False}),
                ("controller restarts", {"restarts": 0.1, "rivals": False}),
                ("lost and repeated scrapes", {"lost": 0.1, "again": 0.05, "rivals": False}),
                ("counter resets", {"resets": 0.05, "rivals": False}),
                ("prior x0.3", {"guess": 0.3 * STABLE, "rivals": False}),
                ("prior x3", {"guess": 3 * STABLE, "rivals": False}),
            ):
                cells.append(Cell(name, rate, truth, null, _errors(truth), **special))
        cells += [Cell("late onset", rate, t, "worse", _errors(t), onset=_ONSET[rate]) for t in (0.015, 0.03)]
        cells += _latency(rate) + _decisions(rate)
    return cells


def _errors(truth: float) -> dict[str, tuple[float, float]]:
    return {"errors": (STABLE, truth)}


def _plain(rate: int) -> list[Cell]:
    nulls = ("good", "edge", "worse", "worse")
    return [Cell("plain", rate, t, null, _errors(t)) for t, null in zip(TRUTHS, nulls, strict=True)]


def _latency(rate: int) -> list[Cell]:
    """As many errors as the stable, but more answers above the latency objective."""
    return [
        Cell("slow tail", rate, t, null, {**_errors(STABLE), "latency": (SLOW, t)}, ("errors", "latency"))
        for t, null in ((0.005, "good"), (0.010, "edge"), (0.030, "worse"))
    ]


def _decisions(rate: int) -> list[Cell]:
    """Other decisions: as many as before but on other requests, and more of them."""
    rails = ("errors", "decisions_up", "decisions_down", "flips")
    flipped = [
        Cell("score flip, as many decisions", rate, f, null, _decided(DECIDED), rails, flips=f)
        for f, null in ((0.004, "good"), (FLIP_MARGIN, "edge"), (0.04, "worse"))
    ]
    more = [
        Cell("more decisions", rate, d, null, _decided(d), rails, flips=max(0.004, d - DECIDED))
        for d, null in ((DECIDED, "good"), (DECIDED + DECISION_MARGIN, "edge"), (2 * DECIDED, "worse"))
    ]
    return flipped + more


def _decided(truth: float) -> dict[str, tuple[float, float]]:
    return {**_errors(STABLE), "decisions": (DECIDED, truth)}


@dataclass(frozen=True)
class Block:
    """One minute of many releases: arrays (runs,). ``counts``: signal -> (n_s, k_s, n_c, k_c)."""

    counts: dict[str, tuple[np.ndarray, ...]]
    pairs: tuple[np.ndarray, np.ndarray] | None = None  # compared, flipped


class World:
    """The traffic of ``runs`` releases of a cell, and the true rates minute by minute."""

    def __init__(self, cell: Cell, runs: int, seed: tuple[int, ...]) -> None:
        self.cell, self.runs = cell, runs
        rng = np.random.default_rng([*seed, 0])
        self.requests = rng.poisson(60 * cell.rate, (CAP + GRACE, runs)).astype(np.int32)
        minutes = np.arange(CAP + GRACE)[:, None]
        start = rng.integers(0, _OUTAGE_BEFORE[cell.rate], runs)
        during = (minutes >= start) & (minutes < start + _OUTAGE["minutes"])
        self._added = _OUTAGE["points"] * (during & cell.outage)
        # a burst multiplies the rate; the quiet minutes have less, so that the mean stays
        often, times = cell.burst
        quiet = 1 / (1 + often * (times - 1))
        shape = (CAP + GRACE, runs)
        self._times = [
            np.where(rng.random(shape) < often, times, 1.0) * quiet if cell.bursts else None for _ in range(2)
        ]

    def rate(self, signal: str, minute: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The true rates (stable, canary) of a signal in one minute, of these runs."""
        p_s, p_c = self.cell.arms[signal]
        if minute < self.cell.onset:
            p_c = p_s
        pair = [np.full(len(rows), p) for p in (p_s, p_c)]
        if signal == "errors":
            if self._times[0] is not None:
                pair = [p * times[minute, rows] for p, times in zip(pair, self._times, strict=True)]
            pair = [p + self._added[minute, rows] for p in pair]
        return pair[0], pair[1]

    def block(self, rng: np.random.Generator, minute: int, rows: np.ndarray, share: np.ndarray) -> Block:
        """One minute of these runs when the canary gets ``share`` of the requests."""
        total = self.requests[minute, rows]
        n_c = rng.binomial(total, share)
        n_s = total - n_c
        p_s, p_c = self.rate("errors", minute, rows)
        k_s, k_c = self._failed(rng, n_s, p_s), self._failed(rng, n_c, p_c)
        counts = {"errors": (n_s, k_s, n_c, k_c)}
        if "latency" in self.cell.arms:
            p_s, p_c = self.rate("latency", minute, rows)
            counts["latency"] = (n_s, rng.binomial(n_s, p_s), n_c, rng.binomial(n_c, p_c))
        if "decisions" in self.cell.arms:
            p_s, p_c = self.rate("decisions", minute, rows)
            m_s, m_c = n_s - k_s, n_c - k_c  # a failed request was not decided
            counts["decisions"] = (m_s, rng.binomial(m_s, p_s), m_c, rng.binomial(m_c, p_c))
        if self.cell.flips is None:
            return Block(counts)
        seen = rng.binomial(n_s - k_s, MIRROR)
        return Block(counts, (seen, rng.binomial(seen, self.cell.flips)))

    def _failed(self, rng: np.random.Generator, n: np.ndarray, p: np.ndarray) -> np.ndarray:
        """Failed ones of n requests; in groups that share one fate, the mean stays n p."""
        size = self.cell.group
        if size == 1:
            return rng.binomial(n, p)
        return size * rng.binomial(n // size, p) + (n % size) * (rng.random(len(n)) < p)

    def excess(self, minute: int) -> float:
        """By how much more often the canary does what is unwanted than the stable, on average; never negative."""
        if minute < self.cell.onset:
            return 0.0
        flips = self.cell.flips if self.cell.flips is not None and self.cell.null != "good" else 0.0
        return max(flips, 0.0, *(p_c - p_s for p_s, p_c in self.cell.arms.values()))

    def harm(self) -> np.ndarray:
        """(CAP + 1, runs): unwanted answers from each minute to the cap, above the stable's, if the canary gave all."""
        each = self.requests[:CAP] * np.array([self.excess(m) for m in range(CAP)])[:, None]
        return np.concatenate([np.cumsum(each[::-1], axis=0)[::-1], np.zeros((1, self.runs))])
