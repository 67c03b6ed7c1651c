"""What an object may bring: others can write its annotations, so they are inputs like any other. Pure."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serving.rollout.rules import Rules

# a release's name becomes a folder's: no separators, nothing that climbs
_RELEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


def check_release(name: Any) -> None:
    """ValueError for a name that is no plain file name."""
    if not isinstance(name, str) or not _RELEASE.fullmatch(name):
        raise ValueError(f"{name!r:.60} is no name of a release: letters, digits, dots, hyphens and underscores")


def check_rules(rules: Rules, rails: Any, pairs: Any) -> None:
    """ValueError for rules that no configuration gives; ``rails`` and ``pairs``: the names of guardrails."""
    _say("ramp", rules.ramp, bool(rules.ramp) and all(_whole(step, 1, 99) for step in rules.ramp))
    for name in ("alpha_promote", "alpha_rollback", "split_tolerance"):
        _say(name, getattr(rules, name), _between(getattr(rules, name), 0, 1))
    for name in ("cap", "stale_s", "block"):
        _say(name, getattr(rules, name), _between(getattr(rules, name), 0, math.inf))
    _say("slo_ms", rules.slo_ms, rules.slo_ms is None or _between(rules.slo_ms, 0, math.inf))
    _say("mirror", rules.mirror, _whole(rules.mirror, 0, 100))
    _say("crashes", rules.crashes, _whole(rules.crashes, 0, 2**31))
    for name, rail in rules.rails.items():
        _say(name, rail, name in rails and _between(rail.margin, 0, 1) and _range(rail.tolerance, 0, 1))
        _say(f"guess of {name}", rail.guess, rail.guess is None or _between(rail.guess, 0, 1))
        _say(f"cluster of {name}", rail.cluster, rail.cluster is None or _whole(rail.cluster, 1, 2**31))
    for name, bound in rules.pairs.items():
        _say(name, bound, name in pairs and _between(bound.margin, 0, 1) and bound.high <= 1)
    if loss := rules.loss:
        _say("loss", loss.bound, _between(loss.bound.margin, 0, 1) and (loss.bound.low, loss.bound.high) == (-1, 1))
        _say("loss", loss.kind, loss.kind in ("brier", "log") and _between(loss.clip, 0, 0.5))
        _say("positive_weight", loss.positive_weight, _between(loss.positive_weight, 0, math.inf))
        _say("holdback", loss.holdback, _whole(loss.holdback, 1, 99))
        _say("wait", loss.wait, _between(loss.wait, 0, math.inf))


def _say(what: str, value: Any, good: bool) -> None:
    if not good:
        raise ValueError(f"{what} is {value!r:.80}, which is out of bounds")


def _whole(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _range(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value < high


def _between(value: Any, low: float, high: float) -> bool:
    return _range(value, low, high) and value > low
