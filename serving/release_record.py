"""The record of a release: read by the report, by people and by the next run of the same release."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from seaway.artifacts import read_json, write_json
from seaway.config import Config
from serving.release_plan import Plan
from serving.rollout import state as states
from serving.rollout.journal import Journal
from serving.rollout.settle import iso, settle, thresholds
from serving.rollout.state import PROMOTED, PROVISIONAL, ROLLED_BACK, State
from serving.traffic_log import PredictionLog, summary

RECORD = "record.json"


def stored(plan: Plan) -> dict[str, Any] | None:
    """The record of this release, if it was decided for good and for the very same specs."""
    path = plan.folder / RECORD
    if not path.exists():
        return None
    record = read_json(path)
    return record if record.get("spec") == plan.spec and record.get("verdict") != PROVISIONAL else None


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
    """Everything after the verdict, in an order that may be repeated after a kill: ledger, alias, record.

    The ledger is first: a version that is the champion already is not released again, to write its line later.
    A provisional promotion has a ledger line and a record too, and leaves the aliases as they are.
    """
    obj = states.annotated(plan.obj, plan.annotations)
    line = settle(None, obj, state, plan.rules, config.home / "ledger.jsonl")
    version = str(plan.candidate["version"])
    if state.phase == PROMOTED and promote:
        promote(version)
    if state.phase == ROLLED_BACK and rollback:
        rollback(version)
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
        "started": iso(state.started),
        "ended": iso(time.time()),
        "decided": iso(state.now),
        "weights": journal["weights"],
        "evidence": journal["evidence"],
        "split": journal.get("split", []),
        "thresholds": thresholds(plan.rules),
        "traffic": dict(traffic),
        "parity": dict(parity) if parity else None,
        "events": journal["event"],
        "ledger": {"seq": line["seq"], "hash": line["hash"]},
        "manifest": plan.obj,
    }
    write_json(plan.folder / RECORD, record)
    return record


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


def _identity(version: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if version is None:
        return None
    kept = ("name", "version", "bundle", "kind", "label", "lineage")
    return {"run": version.get("run_id"), **{k: version[k] for k in kept if version.get(k) is not None}}
