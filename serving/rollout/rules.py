"""What decisions depend on: the rules, one observation, one decision."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from seaway.artifacts import record_hash
from seaway.config import Release, duration
from seaway.evidence.rates import Rail
from serving.rollout.state import State

# guardrail -> (signal, arms exchanged, tolerance as a share of the margin). Two sound models differ a
# little in latency and in what they decide: equality is the wrong null there, half the margin is not.
GUARDRAILS = {
    "errors": ("errors", False, 0.0),
    "latency": ("latency", False, 0.5),
    "decisions_up": ("decisions", False, 0.5),
    "decisions_down": ("decisions", True, 0.5),
}


@dataclass(frozen=True)
class Rules:
    """The configuration that decisions depend on."""

    ramp: tuple[int, ...]
    cap: float  # seconds
    alpha_promote: float
    alpha_rollback: float
    rails: Mapping[str, Rail]
    slo_ms: float | None = None

    @classmethod
    def of(cls, release: Release) -> Rules:
        rails = {name: Rail(g.margin, g.margin * GUARDRAILS[name][2]) for name, g in release.guardrails.items()}
        latency = release.guardrails.get("latency")
        return cls(
            ramp=tuple(release.ramp),
            cap=duration(release.cap).total_seconds(),
            alpha_promote=release.alpha_promote,
            alpha_rollback=release.alpha_rollback,
            rails=rails,
            slo_ms=latency.slo_ms if latency else None,
        )

    @property
    def digest(self) -> str:
        return record_hash([asdict(self)])

    @property
    def stale_after(self) -> float:
        """Seconds without new requests to both predictors after which the evidence is not current."""
        return max(15.0, self.cap / 16)

    @property
    def promote_at(self) -> float:
        """The threshold on every ln E_promote."""
        return math.log(1 / self.alpha_promote)

    @property
    def rollback_at(self) -> float:
        """The threshold on any ln E_rollback."""
        return math.log(max(1, len(self.rails)) / self.alpha_rollback)


@dataclass(frozen=True)
class Observation:
    """What was seen at one instant. Anything may be missing or absurd; then it counts as not seen."""

    now: Any  # seconds since the epoch
    spec: str = ""  # hash of the two predictors' specs
    gone: str | None = None  # a predictor that is no longer in the object
    counters: Mapping[str, Any] = field(default_factory=dict)  # by predictor, cumulative
    ready: Mapping[str, Any] = field(default_factory=dict)
    restarts: Mapping[str, Any] = field(default_factory=dict)
    frozen: bool = False
    abort: str | None = None
    ended: bool = False  # no more requests will come
    failed: str = ""  # why the substrate gave up starting a predictor that was never ready
    problem: str = ""  # why there are no counters or no status


@dataclass(frozen=True)
class Decision:
    """``action``: start anew, ramp, hold, promote, roll back, give up (held) or none (already decided).

    ``weights`` is what the object should have, None where it stays as it is.
    """

    action: str
    state: State
    weights: dict[str, int] | None
    reason: str
