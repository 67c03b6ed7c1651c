"""What decisions depend on, as a record that travels with the released object.

Rules are kept in the annotation seaway.dev/rules, so a controller needs no configuration to go on with a
release, and the evidence is bound to them by their hash.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any

from seaway.artifacts import record_hash
from seaway.config import Release, duration
from seaway.errors import SeawayError
from seaway.evidence.means import Bound
from seaway.evidence.rates import Rail
from serving.rollout.limits import check_rules
from serving.rollout.state import RULES, State, annotations

# guardrail -> (signal, arms exchanged, tolerance as a share of the margin). Two sound models differ a
# little in latency and in what they decide: equality is the wrong null there, half the margin is not.
GUARDRAILS = {
    "errors": ("errors", False, 0.0),
    "latency": ("latency", False, 0.5),
    "decisions_up": ("decisions", False, 0.5),
    "decisions_down": ("decisions", True, 0.5),
}
PAIRS = {"flips": 0.0, "score_shift": 0.0}  # guardrail -> least possible value; the largest is 1
LOSS = "loss"


@dataclass(frozen=True)
class LossRules:
    """The second stage: mean loss difference on requests that both models scored, as labels arrive."""

    bound: Bound
    kind: str
    clip: float
    positive_weight: float
    holdback: int  # percent that the old champion keeps until the labels have confirmed
    wait: float  # seconds under observation, provisional at the longest


@dataclass(frozen=True)
class Rules:
    """The configuration that decisions depend on. Times are seconds."""

    ramp: tuple[int, ...]
    cap: float
    alpha_promote: float
    alpha_rollback: float
    rails: Mapping[str, Rail]
    pairs: Mapping[str, Bound] = field(default_factory=dict)
    loss: LossRules | None = None
    slo_ms: float | None = None
    mirror: int = 0  # percent of the requests that the shadow scores too
    crashes: int = 0  # how many more times than the stable the canary may crash
    split_tolerance: float = 0.02
    stale_s: float = 45.0  # counters taken longer ago than this are left out
    block: float = 1.0  # between two observations

    @classmethod
    def of(cls, release: Release, scrape: str = "15s") -> Rules:
        """``scrape``: how often the counters are taken; what is older than three of these is stale."""
        rails, pairs = {}, {}
        for name, g in release.guardrails.items():
            share = 0.5 if name in PAIRS else GUARDRAILS[name][2]
            tolerance = g.margin * share if g.tolerance is None else g.tolerance
            if name in PAIRS:
                pairs[name] = Bound(g.margin, tolerance, low=PAIRS[name], high=1.0)
            else:
                rails[name] = Rail(g.margin, tolerance, cluster=g.cluster)
        latency, labels = release.guardrails.get("latency"), release.labels
        rules = cls(
            ramp=tuple(release.ramp),
            cap=duration(release.cap).total_seconds(),
            alpha_promote=release.alpha_promote,
            alpha_rollback=release.alpha_rollback,
            rails=_ordered(rails, GUARDRAILS),
            pairs=_ordered(pairs, PAIRS),
            loss=labels
            and LossRules(
                bound=Bound(labels.margin, labels.tolerance, low=-1.0, high=1.0),
                kind=labels.loss,
                clip=labels.clip,
                positive_weight=labels.positive_weight,
                holdback=labels.holdback,
                wait=duration(labels.wait).total_seconds(),
            ),
            slo_ms=latency.slo_ms if latency else None,
            mirror=release.mirror,
            crashes=release.crashes,
            split_tolerance=release.split_tolerance,
            stale_s=3 * duration(scrape).total_seconds(),
            block=duration(release.block).total_seconds(),
        )
        try:
            check_rules(rules, GUARDRAILS, PAIRS)
        except ValueError as error:
            raise SeawayError(f"the section release cannot be used: {error}") from None
        return rules

    def record(self) -> dict[str, Any]:
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Rules:
        """Raises SeawayError for anything that is not a record of rules."""
        try:
            known = dict(record)
            loss = known.get("loss")
            rules = cls(
                **{
                    **known,
                    "ramp": tuple(known["ramp"]),
                    "rails": _ordered({name: Rail(**rail) for name, rail in known["rails"].items()}, GUARDRAILS),
                    "pairs": _ordered({name: Bound(**b) for name, b in known.get("pairs", {}).items()}, PAIRS),
                    "loss": LossRules(**{**loss, "bound": Bound(**loss["bound"])}) if loss else None,
                }
            )
            check_rules(rules, GUARDRAILS, PAIRS)
            return rules
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise SeawayError(f"not a record of release rules: {error}") from None

    @cached_property
    def digest(self) -> str:
        return record_hash(self.record())

    @property
    def guardrails(self) -> tuple[str, ...]:
        """All names, the delayed loss last."""
        return (*self.rails, *self.pairs, *([LOSS] if self.loss else []))

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
        return math.log(max(1, len(self.guardrails)) / self.alpha_rollback)


def load(obj: Mapping[str, Any]) -> Rules:
    """The rules in an object's annotation; SeawayError when there are none or they cannot be read."""
    text = annotations(obj).get(RULES, "")
    try:
        return Rules.from_record(json.loads(text))
    except (ValueError, RecursionError, SeawayError) as error:
        raise SeawayError(
            f"annotation {RULES} of {obj['metadata']['name']!r} cannot be used ({error}); start the release again"
        ) from None


def _ordered(known: Mapping[str, Any], order: Iterable[str]) -> dict[str, Any]:
    """In one order, whether from a configuration or from a record: a decision's words must not depend on it."""
    return {name: known[name] for name in dict.fromkeys([*order, *sorted(known)]) if name in known}


@dataclass(frozen=True)
class Observation:
    """What was seen at one instant. Anything may be missing or absurd; then it counts as not seen."""

    now: Any  # seconds since the epoch
    spec: str = ""  # hash of the two predictors' specs
    uid: str = ""  # of the object: a deleted and recreated one is another
    gone: str | None = None  # a predictor that is no longer in the object
    counters: Mapping[str, Any] = field(default_factory=dict)  # predictor -> source -> cumulative counts
    asked: Mapping[str, Any] = field(default_factory=dict)  # weights in the object
    weights: Mapping[str, Any] = field(default_factory=dict)  # weights that the proxy routes by
    ready: Mapping[str, Any] = field(default_factory=dict)
    restarts: Mapping[str, Any] = field(default_factory=dict)  # crashes, cumulative
    pairs: Mapping[str, Any] = field(default_factory=dict)  # flips, score_shift, loss: cumulative means
    frozen: bool = False
    abort: str | None = None  # a person's reason
    promote: str | None = None  # a person asks to skip the rest of the ramp
    ended: bool = False  # no more requests will come
    failed: str = ""  # why the substrate gave up starting a predictor that was never ready
    problem: str = ""  # why there are no counters or no status
    artifact: str = ""  # why the canary's artifact may not be promoted

    def record(self) -> dict[str, Any]:
        """JSON-able; what is not a plain value or not finite becomes its text. Fields at their default are left out."""
        found = {f.name: _plain(getattr(self, f.name)) for f in fields(self)}
        return {k: v for k, v in found.items() if k == "now" or v not in ("", None, False, {})}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Observation:
        known = {f.name for f in fields(cls)}
        return cls(**{"now": None, **{k: v for k, v in record.items() if k in known}})


def _plain(value: Any, depth: int = 0) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)):
        return value if math.isfinite(value) else str(value)
    if depth < 8 and isinstance(value, Mapping):
        return {str(k): _plain(v, depth + 1) for k, v in value.items()}
    if depth < 8 and isinstance(value, (list, tuple)):
        return [_plain(v, depth + 1) for v in value]
    if depth < 8 and hasattr(value, "__dataclass_fields__"):
        found = {f: getattr(value, f) for f in value.__dataclass_fields__}
        return _plain(found, depth + 1)
    return repr(value)


@dataclass(frozen=True)
class Decision:
    """``action``: start anew, ramp, hold, freeze, promote, promote provisionally, confirm, roll back, give up
    (ends as held) or none (decided before).

    ``weights`` is what the object should have, without the shadow; None where it stays as it is. A final
    phase also removes the shadow.
    """

    action: str
    state: State
    weights: dict[str, int] | None
    reason: str
