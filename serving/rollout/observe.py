"""What can be seen of a release at one instant; what cannot be read is left out and named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass, replace
from typing import Any

from seaway.errors import SeawayError
from serving import manifests
from serving.rollout import state as states
from serving.rollout.rules import Observation, Rules
from serving.rollout.state import State
from serving.substrate.base import FAILED, Substrate


def observe(
    substrate: Substrate,
    obj: dict[str, Any],
    state: State,
    now: float,
    ended: bool = False,
    *,
    rules: Rules | None = None,
    pairs: Callable[[State], Mapping[str, Any]] | None = None,
) -> Observation:
    """The observation in the form in which it is logged, so that a replay decides on the very same."""
    name = obj["metadata"]["name"]
    seen = Observation(
        now=now,
        spec=states.spec_hash(obj, state.stable, state.canary),
        uid=str(obj["metadata"].get("uid") or ""),
        gone=next((n for n in (state.canary, state.stable) if n not in manifests.weights(obj)), None),
        asked=manifests.weights(obj),
        frozen=states.is_frozen(obj),
        abort=states.abort_reason(obj),
        promote=states.promote_asked(obj),
        ended=ended,
    )
    problems = [_other_shadow(obj, state.canary)] if pairs is not None else []
    try:
        status = substrate.status(name)  # first: what is counted after it went by these weights
        failed = (status.message or "no reason was given") if status.state == FAILED else ""
        seen = replace(seen, ready=status.ready, restarts=status.restarts, weights=status.weights, failed=failed)
        counters = substrate.counters(name)
        seen = replace(seen, counters=_trimmed(counters, rules))
    except Exception as error:  # whatever goes wrong there, nothing was seen
        problems.append(f"no observation: {_text(error)}")
    if pairs is not None:
        try:
            readings = dict(pairs(state))
            problems.append(str(readings.pop("problem", "")))
            seen = replace(seen, pairs=readings)
        except Exception as error:
            problems.append(f"no pairs: {_text(error)}")
    seen = replace(seen, problem="; ".join(text for text in problems if text)[:1000])
    return Observation.from_record(seen.record())


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, SeawayError) else f"{type(error).__name__}: {error}"


def _other_shadow(obj: Mapping[str, Any], canary: str) -> str:
    """Pairs speak for the canary only if its shadow is the same in all but name and traffic."""
    listed = manifests.predictors(obj)
    shadow = listed.get(manifests.shadow(obj) or "")
    if shadow is None or canary not in listed:
        return ""  # then there are no pairs that could be wrong
    own = ("name", "traffic", "shadow", "replicas")
    one, other = ({k: v for k, v in p.items() if k not in own} for p in (shadow, listed[canary]))
    return "" if one == other else f"the shadow {shadow['name']} is not the same as {canary}"


def _trimmed(counters: Mapping[str, Any], rules: Rules | None) -> dict[str, Any]:
    """Only the latency edge that is looked at, and no counts that a source does not have."""
    slo = rules.slo_ms if rules else None
    found: dict[str, Any] = {}
    for predictor, sources in counters.items():
        listed = sources if isinstance(sources, Mapping) else {"": sources}
        found[predictor] = {str(source): _plain(counts, slo) for source, counts in listed.items()}
    return found


def _plain(counts: Any, slo_ms: float | None) -> Any:
    record = asdict(counts) if is_dataclass(counts) else counts
    if not isinstance(record, Mapping):
        return record
    slow = record.get("slow")
    if isinstance(slow, Mapping):
        slow = {edge: n for edge, n in slow.items() if slo_ms is not None and str(edge) in _texts(slo_ms)} or None
    return {k: v for k, v in {**record, "slow": slow}.items() if v is not None}


def _texts(slo_ms: float) -> tuple[str, ...]:
    whole = (str(int(slo_ms)),) if float(slo_ms).is_integer() else ()
    return (*whole, str(float(slo_ms)))
