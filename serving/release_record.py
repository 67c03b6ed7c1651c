"""The record of a release: read by the report, by people and by the next run of the same release."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from seaway import ledger
from seaway.artifacts import read_json, write_json
from seaway.config import Config
from serving.release_plan import Plan
from serving.rollout.journal import Journal
from serving.rollout.rules import Rules
from serving.rollout.state import PROMOTED, ROLLED_BACK, State
from serving.rollout.words import rows
from serving.traffic_log import PredictionLog, summary

RECORD = "record.json"


def stored(plan: Plan) -> dict[str, Any] | None:
    """The record of this release, if it was decided for the very same specs."""
    path = plan.folder / RECORD
    if not path.exists():
        return None
    record = read_json(path)
    return record if record.get("spec") == plan.spec else None


def conclude(
    config: Config,
    plan: Plan,
    state: State,
    traffic: Mapping[str, Any],
    parity: Mapping[str, Any] | None,
    *,
    promote: Callable[[str], Any] | None,
    rollback: Callable[[str], Any] | None,
) -> dict[str, Any]:
    """Everything after the verdict, in an order that may be repeated after a kill: aliases, ledger, record."""
    version = str(plan.candidate["version"])
    if state.phase == PROMOTED and promote:
        promote(version)
    if state.phase == ROLLED_BACK and rollback:
        rollback(version)
    entry = _ledger_entry(plan, state)
    line = _known(config.home / "ledger.jsonl", entry) or ledger.append(config.home / "ledger.jsonl", entry)
    journal = Journal(plan.folder / "journal.jsonl").read()
    record = {
        "release": plan.name,
        "workload": plan.workload,
        "candidate": _identity(plan.candidate),
        "champion": _identity(plan.champion),
        "faults": plan.faults or None,
        "spec": plan.spec,
        "verdict": state.phase,
        "reason": state.reason,
        "started": _iso(state.started),
        "ended": _iso(time.time()),
        "decided": _iso(state.now),
        "weights": journal["weights"],
        "evidence": journal["evidence"],
        "thresholds": thresholds(plan.rules),
        "traffic": dict(traffic),
        "parity": dict(parity) if parity else None,
        "events": journal["event"],
        "ledger": {"seq": line["seq"], "hash": line["hash"]},
        "manifest": plan.obj,
    }
    write_json(plan.folder / RECORD, record)
    return record


def thresholds(rules: Rules) -> dict[str, float]:
    """On E itself, not on its logarithm."""
    return {"promote": 1 / rules.alpha_promote, "rollback": max(1, len(rules.rails)) / rules.alpha_rollback}


def traffic_summary(folder: Path, config: Config, progress: Mapping[str, Any]) -> dict[str, Any]:
    """Joins the prediction log and says what was sent; ``rate`` is the achieved one."""
    log = PredictionLog(folder / "predictions")
    table = log.join(folder / "predictions.parquet")
    late = table["late_ms"]
    return {
        **summary(table),
        "rate": progress.get("rate"),
        "target_rate": config.release.rate,
        "late_p99_ms": round(float(late.quantile(0.99)), 3) if table.height else None,
        "push_failures": progress.get("push_failures", 0),
        "first_row": int(table["row"].min()) if table.height else None,
        "next_row": log.reserved() or 0,
    }


def _ledger_entry(plan: Plan, state: State) -> dict[str, Any]:
    return {
        "what": state.phase,
        "who": "release loop",
        "why": state.reason,
        "release": plan.name,
        "workload": plan.workload,
        "version": str(plan.candidate["version"]),
        "champion": str(plan.champion["version"]) if plan.champion else None,
        "run": plan.candidate.get("run_id"),
        "lineage": plan.candidate.get("lineage"),
        "faults": plan.faults or None,
        "spec": plan.spec,
        "started": _iso(state.started),
        "thresholds": thresholds(plan.rules),
        "evidence": rows(state),
    }


def _known(path: Path, entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """The line of this very decision, when a kill came between the ledger and the record."""
    same = ("release", "spec", "started", "what")
    for line in reversed(ledger.read(path)):
        if all(line["entry"].get(key) == entry[key] for key in same):
            return line
    return None


def _identity(version: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if version is None:
        return None
    kept = ("name", "version", "bundle", "kind", "label", "lineage")
    return {"run": version.get("run_id"), **{k: version[k] for k in kept if version.get(k) is not None}}


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
