"""The evidence added up a second time, from what controllers saw, by code that shares nothing with the controller's.

Only the e-values of one block come from ``seaway.evidence``, which has tests and oracles of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from seaway.evidence import means, rates, split
from seaway.evidence.rates import Rail
from tests.robustness import commits as c
from tests.robustness.commits import Commit, commits
from tests.robustness.history import History

SIGNALS = {"errors": ("requests", "errors"), "latency": ("requests", "slow"), "decisions": ("answered", "decisions")}
OF_GUARDRAIL = {"errors": "errors", "latency": "latency", "decisions_up": "decisions", "decisions_down": "decisions"}
LONGEST_S, AHEAD_S = 60.0, 5.0


@dataclass
class Meter:
    """One count of one source: the last good reading, and how often in a row it was lower."""

    n: int
    k: int
    lower: int = 0

    def gain(self, n: int, k: int) -> tuple[int, int]:
        if n < self.n or k < self.k:
            self.lower += 1
            if self.lower > 1:
                self.n, self.k, self.lower = n, k, 0
            return 0, 0
        found = n - self.n, min(k - self.k, n - self.n)  # what is too many waits
        self.n, self.k, self.lower = n, self.k + found[1], 0
        return found


@dataclass
class Known:
    """What is known of one comparison: one object, two specs, one set of rules."""

    rules: Mapping[str, Any]
    began: float = 0.0
    observed: float = 0.0
    now: float | None = None
    sources: dict[str, dict[str, dict[str, Meter]]] = field(default_factory=dict)  # arm -> source -> signal
    used_at: dict[tuple[str, str], float] = field(default_factory=dict)  # when what was used last was counted
    evidence: dict[str, dict[str, Any]] = field(default_factory=dict)
    pairs: dict[str, dict[str, Any]] = field(default_factory=dict)
    split: Mapping[str, Any] = field(default_factory=dict)

    def e_promote(self, name: str) -> float:
        if name in self.evidence:
            return math.exp(min(700.0, float(rates.log_e(self.evidence[name])[0])))
        if name in self.pairs:
            return math.exp(min(700.0, float(means.log_e(self.pairs[name])[0])))
        return 1.0

    def split_e(self) -> float:
        return math.exp(min(700.0, split.log_e(dict(self.split)))) if self.split else 1.0

    def counts(self, name: str) -> tuple[int, int, int, int]:
        kept = self.evidence.get(name) or rates.new_state()
        return kept["n_s"], kept["k_s"], kept["n_c"], kept["k_c"]

    def look(self, commit: Commit) -> None:
        self.began = commit.old["started"]
        seen, now = commit.seen, commit.seen.get("clock")
        if now is not None:
            self.observed += min(max(0.0, now - self.now), LONGEST_S) if self.now is not None else 0.0
            self.now = max(now, self.now if self.now is not None else now)
        gains = {
            role: self._arm(commit.old[role], (seen.get("counters") or {}).get(commit.old[role]), now)
            for role in ("stable", "canary")
        }
        for name, record in self.rules["rails"].items():
            s, k = (gains[role].get(OF_GUARDRAIL[name], (0, 0)) for role in ("stable", "canary"))
            if name == "decisions_down":
                s, k = k, s
            self.evidence[name] = rates.update(self.evidence.get(name) or rates.new_state(), Rail(**record), *s, *k)
        for name, reading in (seen.get("pairs") or {}).items():
            if isinstance(reading, Mapping) and reading.get("n", 0) > self.pairs.get(name, {"n": 0})["n"]:
                self.pairs[name] = dict(reading)
        self.split = commit.state.get("split") or {}

    def _arm(self, arm: str, found: Mapping[str, Any] | None, now: float | None) -> dict[str, tuple[int, int]]:
        gains: dict[str, tuple[int, int]] = {}
        if not found or now is None:
            return gains
        first = arm not in self.sources
        known = self.sources.setdefault(arm, {})
        for source, counts in found.items():
            new = source not in known
            meters = known.setdefault(source, {})
            at = counts["at"]
            if at is not None and not now - self.rules["stale_s"] <= at <= now + AHEAD_S:
                continue
            if at is not None and at < self.began <= now:
                continue  # it may be of the spec before
            last = self.used_at.get((arm, source))
            if at is not None and last is not None and at < last:
                continue  # of two servers one lags
            was = repr(meters)
            for signal, (total, unwanted) in SIGNALS.items():
                n, k = counts[total], counts[unwanted]
                k = (
                    next((v for edge, v in k.items() if float(edge) == self.rules["slo_ms"]), None)
                    if isinstance(k, dict)
                    else k
                )
                if not (_whole(n) and _whole(k)):
                    continue
                n, k = int(n), int(k)
                if signal not in meters:
                    meters[signal] = Meter(n, k) if first or not new else Meter(0, 0)
                    if first or not new:
                        continue
                got = meters[signal].gain(n, k)
                old = gains.get(signal, (0, 0))
                gains[signal] = (old[0] + got[0], old[1] + got[1])
            if at is not None and repr(meters) != was:
                self.used_at[arm, source] = math.floor(at * 1000) / 1000
        return gains


def fold(history: History) -> Iterator[tuple[Commit, Known]]:
    """Each commit, with what was known by it."""
    known: dict[str, Known] = {}
    last: dict[str, str] = {}
    for commit in commits(history):
        uid = commit.obj["metadata"]["uid"]
        key = c.compared(commit.before, commit.old)
        if uid not in last and not commit.old["uid"]:  # as it was when the release began, before any look
            last[uid] = c.compared(_first(history, uid), commit.old)
            known[uid] = Known(c.rules_of(commit.obj), now=commit.old["now"])
        if last.get(uid) != key:  # another spec, object or other rules: the look that shows it adds nothing yet
            last[uid] = key
            known[uid] = Known(c.rules_of(commit.obj), now=max(commit.old["now"], commit.seen.get("clock") or 0.0))
            yield commit, known[uid]
            continue
        if commit.old["phase"] in c.UNDER_WAY and not commit.told_to_stop:
            known[uid].look(commit)
        yield commit, known[uid]


def _first(history: History, uid: str) -> dict[str, Any]:
    return next(e["obj"] for e in history.of("stored") if e["obj"]["metadata"]["uid"] == uid)


def _whole(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return math.isfinite(value) and value == int(value) and 0 <= value < 2**63
