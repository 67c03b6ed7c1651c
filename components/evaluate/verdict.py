"""The verdict on a candidate, from numbers alone: pass, fail, or not enough data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from seaway.config import Gates

PASS, FAIL, NOT_ENOUGH = "pass", "fail", "not enough data"


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; all None when it is not defined on these rows."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class SegmentDifference:
    """Candidate minus champion in one group of rows; positive is better. ``enough``: large enough to judge."""

    segment: str
    group: str
    difference: Estimate
    enough: bool


def decide_verdict(
    gates: Gates,
    positives: int,
    metrics: Mapping[str, Estimate],
    difference: Estimate | None,
    segments: Sequence[SegmentDifference],
) -> dict[str, Any]:
    """The record {"verdict", "metric", "reasons", "gates"}; each gate has name, value, low, high, bound, ok.

    ``metrics``: the candidate's, by name. ``difference``: candidate minus champion in ``gates.metric``,
    paired on the same rows, positive is better; None without a champion that can be compared.

    - Fewer than ``min_positives``: not enough data.
    - ``minimum``: each metric's value must reach its bound.
    - ``max_regression``: the difference's lower end must not be below -bound. When the value itself is
      not below, the rows are too few to tell: not enough data, unless another gate fails.
    - ``max_segment_regression``: in a group that is large enough, the value must not be below -bound
      with an interval that excludes 0.
    """
    records: list[dict[str, Any]] = []
    failed: list[str] = []
    unclear: list[str] = []

    def gate(name: str, estimate: Estimate, bound: float, ok: bool, reason: str, *, clear: bool = True) -> None:
        records.append({"name": name, **asdict(estimate), "bound": bound, "ok": ok})
        if not ok:
            (failed if clear else unclear).append(reason)

    enough = positives >= gates.min_positives
    gate(
        "positives",
        Estimate(float(positives)),
        float(gates.min_positives),
        enough,
        f"only {positives} positive rows; at least {gates.min_positives} are needed",
        clear=False,
    )
    for name, bound in gates.minimum.items():
        found = metrics.get(name, Estimate(None))
        if found.value is None:
            gate(f"minimum {name}", found, bound, False, f"{name} is not defined on these rows", clear=False)
        else:
            reason = f"{name} is {found.value:.4f}, below the minimum of {bound:g}"
            gate(f"minimum {name}", found, bound, found.value >= bound, reason)
    if difference is not None:
        _against_champion(gate, gates, difference)
    for part in segments:
        if part.enough and part.difference.value is not None:
            _in_segment(gate, gates, part)
    verdict = NOT_ENOUGH if not enough else FAIL if failed else NOT_ENOUGH if unclear else PASS
    return {"verdict": verdict, "metric": gates.metric, "reasons": [*unclear, *failed], "gates": records}


def _against_champion(gate: Any, gates: Gates, difference: Estimate) -> None:
    name, bound = f"{gates.metric} against the champion", -gates.max_regression
    if difference.value is None or difference.low is None:
        gate(name, difference, bound, False, f"{gates.metric} cannot be compared on these rows", clear=False)
        return
    said = f"{gates.metric} differs from the champion's by {difference.value:+.4f} (at the worst {difference.low:+.4f})"
    clear = difference.value < bound
    words = "a larger loss than allowed" if clear else "too few rows to exclude a larger loss than allowed"
    gate(name, difference, bound, difference.low >= bound, f"{said}: {words} ({bound:g})", clear=clear)


def _in_segment(gate: Any, gates: Gates, part: SegmentDifference) -> None:
    value, high, bound = part.difference.value, part.difference.high, -gates.max_segment_regression
    harmed = value < bound and high is not None and high < 0
    reason = f"{gates.metric} is {-value:.4f} worse than the champion's where {part.segment} is {part.group}"
    gate(f"{part.segment}: {part.group}", part.difference, bound, not harmed, reason)
