"""The report's part about cost: by step, against the estimate, and of the model that came of it."""

from __future__ import annotations

from typing import Any

from components.report.dag import clock
from components.report.records import NotRun, Records, ledger_entries, read
from components.report.svg import short
from seaway.spend import Rates, worth

PROMOTED = ("promoted", "provisional")


def cost(records: Records) -> dict[str, Any]:
    """What this run cost, what its model cost with the work of earlier runs, and all runs since the last promotion."""
    run = records.run
    steps = [s for s in run.get("steps") or [] if "usd" in s]
    if not steps:
        raise NotRun("This run's record does not say what its steps have used.")
    rates = Rates.read(run.get("rates"))
    rows = [
        {
            "name": s["name"],
            "status": s.get("status", ""),
            "clock": clock(float(s.get("seconds") or 0)),
            "hours": float(s.get("cpu_seconds") or 0) / 3600,
            "gpu_hours": float(s.get("gpu_seconds") or 0) / 3600,
            "usd": worth(s["usd"]),
            "work": worth(s.get("work_usd") or 0.0),
        }
        for s in steps
    ]
    estimate = run.get("estimate") or {}
    return {
        "rows": rows,
        "gpus": any(row["gpu_hours"] for row in rows),
        "priced": not rates.free,
        "source": rates.source,
        "hours": sum(row["hours"] for row in rows),
        "usd": worth(_usd(run)),
        "work": worth(_work(run)),
        "estimate": worth(estimate["usd"]) if estimate and not estimate.get("unknown") else None,
        "unknown": estimate.get("unknown") or [],
        "model": _model(records),
    }


def tile(records: Records) -> list[dict[str, str]]:
    """The headline's number; none where the record says nothing of costs."""
    run = records.run
    if "usd" not in run:
        return []
    if Rates.read(run.get("rates")).free:
        hours = sum(float(s.get("cpu_seconds") or 0) for s in run.get("steps") or []) / 3600
        return [{"name": "compute", "value": f"{short(hours)} core-hours", "note": "no price is set"}]
    return [{"name": "cost of this model", "value": worth(_work(run)), "note": f"this run {worth(_usd(run))}"}]


def _usd(run: dict[str, Any]) -> float:
    return sum(float(s.get("usd") or 0.0) for s in run.get("steps") or [])


def _work(run: dict[str, Any]) -> float:
    return sum(float(s.get("work_usd") or 0.0) for s in run.get("steps") or [])


def _model(records: Records) -> dict[str, Any] | None:
    """Of a version that was promoted in this report: all that was spent since the promotion before it."""
    promoted = [r for r in records.releases if r.get("verdict") in PROMOTED]
    if not promoted:
        return None
    own = str(records.run.get("run") or "")
    before = [name for name in _promoted_runs(records) if name < own]
    since = max(before, default="")
    found = []
    for file in sorted((records.home / "runs").glob("*/*.json")):
        record = read(file) if file.name in ("run.json", "sweep.json") else None
        if isinstance(record, dict) and since < str(record.get("run", "")) <= own and "usd" in record:
            found.append(float(record["usd"]))
    versions = [str((r.get("candidate") or {}).get("version", "")) for r in promoted]
    return {"versions": versions, "runs": len(found), "since": since, "usd": worth(sum(found) / len(promoted))}


def _promoted_runs(records: Records) -> list[str]:
    """The runs whose models were promoted, by the ledger."""
    entries = [e for e in ledger_entries(records.home) if e.get("what") in PROMOTED]
    return [str((e.get("lineage") or {}).get("run") or "") for e in entries]
