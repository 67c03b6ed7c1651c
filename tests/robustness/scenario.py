"""One simulated release, drawn from its seed: the truth about the canary, the rules, which faults strike how often."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from seaway.evidence.means import Bound
from seaway.evidence.rates import Rail
from serving.rollout.rules import LossRules, Rules

PERIOD = 5.0  # seconds between two steps of the controller
STEPS = 90  # under faults; then the world is calm until the verdict
RATE_KINDS = ("errors", "latency", "decisions_up", "decisions_down")
BASE = {"errors": 0.004, "slow": 0.02, "decisions": 0.08}
RAILS = {
    "errors": Rail(0.03),
    "latency": Rail(0.08, 0.04),
    "decisions_up": Rail(0.08, 0.04),
    "decisions_down": Rail(0.07, 0.035),
}
BOUNDS = {"flips": Bound(0.08, 0.04, 0.0, 1.0), "score_shift": Bound(0.1, 0.05, 0.0, 1.0)}
LOSS = Bound(0.1, 0.02, -1.0, 1.0)

# every fault by where it strikes; the number is the most often that it strikes, as a share of the occasions
FAULTS: dict[str, float] = {
    "kill before a write": 0.3,
    "kill after a write": 0.3,
    "kill before a log line": 0.2,
    "kill after a log line": 0.2,
    "torn log line": 0.2,
    "kill before a ledger line": 0.5,
    "kill after a ledger line": 0.5,
    "torn ledger line": 0.5,
    "kill at a read": 0.1,
    "lost reply": 0.3,
    "conflict 409": 0.3,
    "too many requests 429": 0.3,
    "server error 500": 0.3,
    "timeout": 0.3,
    "stale object": 0.3,
    "two controllers": 0.7,
    "clock skew": 0.5,
    "signals down": 0.5,
    "signals slow": 0.4,
    "signals stuck": 0.4,
    "not a number": 0.3,
    "future timestamp": 0.3,
    "old timestamp": 0.3,
    "source missing": 0.3,
    "predictor missing": 0.2,
    "nonsense counts": 0.2,
    "counter reset": 0.08,
    "pod replaced": 0.06,
    "status down": 0.3,
    "pair feed down": 0.4,
    "pair feed shrinks": 0.2,
    "canary crash": 0.02,
    "stable crash": 0.02,
    "common outage": 0.1,
}
PEOPLE: dict[str, float] = {
    "freeze": 0.05,
    "abort": 0.01,
    "promote": 0.05,
    "weight edit": 0.05,
    "new spec": 0.02,
    "recreated with its annotations": 0.02,
    "recreated without annotations": 0.01,
    "canary removed": 0.005,
    "unrelated edit": 0.1,
}
CONDITIONS = ("canary never ready", "canary crash loop", "gateway splits otherwise", "labels absent", "bad artifact")


@dataclass(frozen=True)
class Scenario:
    seed: int
    truth: str  # good, edge or bad
    harm: str = ""  # the guardrail that is at its margin or beyond
    labels: bool = False
    pairs: bool = False
    layout: str = "pods"  # pods count all, or a gateway counts requests and the pods only decisions
    pods: int = 1
    scrape: float = 0.0  # seconds between two scrapes; 0: counted when asked
    rate: float = 40.0
    crashes: int = 0
    every_write: bool = False  # each write is killed before it and, tried again, after it
    faults: dict[str, float] = field(default_factory=dict)
    people: dict[str, float] = field(default_factory=dict)
    conditions: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def rules(self) -> Rules:
        return Rules(
            ramp=(10, 25, 50),
            cap=60 * PERIOD,
            alpha_promote=0.05,
            alpha_rollback=0.05,
            rails=RAILS,
            pairs=BOUNDS if self.pairs else {},
            loss=LossRules(LOSS, "brier", 0.01, 1.0, 10, 60 * PERIOD) if self.labels else None,
            slo_ms=100.0,
            mirror=100 if self.pairs or self.labels else 0,
            crashes=self.crashes,
            split_tolerance=0.05,
            stale_s=45.0,
            block=PERIOD,
        )

    def rates(self, truth: str = "", harm: str = "") -> dict[str, float]:
        """Of one predictor: errors, slow, decisions, and of its pairs with the stable: flips, score_shift, loss."""
        found = {**BASE, "flips": 0.02, "score_shift": 0.02, "loss": 0.0}
        if truth in ("", "good"):
            return found
        margin = {**{k: r.margin for k, r in RAILS.items()}, **{k: b.margin for k, b in BOUNDS.items()}}
        margin["loss"] = LOSS.margin
        times = 1.0 if truth == "edge" else 3.0
        key, sign = {"latency": ("slow", 1), "decisions_up": ("decisions", 1), "decisions_down": ("decisions", -1)}.get(
            harm, (harm, 1)
        )
        found[key] = max(0.0, found[key] * (key in BASE) + sign * times * margin[harm])
        return found


def draw_scenario(seed: int) -> Scenario:
    draw = np.random.default_rng([seed, 1])
    truth = str(draw.choice(["good", "edge", "bad"], p=[0.4, 0.2, 0.4]))
    labels, pairs = bool(draw.random() < 0.4), bool(draw.random() < 0.4)
    harms = [*RATE_KINDS, *(BOUNDS if pairs else ()), *(["loss"] * 3 if labels else ())]
    share = float(draw.choice([0.0, 0.15, 0.4]))  # of the kinds of faults; some histories have hardly any
    faults = {name: float(most * draw.uniform(0.1, 1.0)) for name, most in FAULTS.items() if draw.random() < share}
    people_share = float(draw.choice([0.0, 0.2, 0.5]))
    people = {name: float(most * draw.uniform(0.3, 1)) for name, most in PEOPLE.items() if draw.random() < people_share}
    return Scenario(
        seed=seed,
        truth=truth,
        harm="" if truth == "good" else str(draw.choice(harms)),
        labels=labels,
        pairs=pairs,
        layout=str(draw.choice(["pods", "gateway"])),
        pods=int(draw.integers(1, 4)),
        scrape=float(draw.choice([0.0, 0.0, 15.0])),
        rate=float(draw.choice([4.0, 12.0, 40.0])),
        crashes=int(draw.choice([0, 0, 3])),
        every_write=bool(draw.random() < 0.15),
        faults=faults,
        people=people,
        conditions=tuple(c for c in CONDITIONS if draw.random() < 0.06),
    )
