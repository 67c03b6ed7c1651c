"""The report's part about the sweep: what was tried, how it learnt, and where time and money went."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from components.report import charts, sweep_charts
from components.report.dag import clock
from components.report.records import NotRun, Records
from components.report.svg import short
from seaway.metrics import LOWER_IS_BETTER
from seaway.spend import Rates, Use, worth

MOST = 12  # trials in the table
Row = dict[str, Any]


def sweep(records: Records) -> dict[str, Any]:
    """Every trial's parameters and result, how each learnt, and what each has used."""
    best = records.json("tune", "best.json")
    path = records.folder("tune") / "trials.parquet"
    if not path.is_file():
        raise NotRun("The sweep left no table of trials.")
    metric, chosen, rates = best["metric"], str(best["trial"]), Rates.read(records.run.get("rates"))
    table = records.table(path)
    axes = [name for name in best["params"] if name in table.columns]
    rows = trials(table.sort("epoch", nulls_last=True).to_dicts(), axes, metric, rates)
    told = [row for row in rows if row["curve"]]
    if not told:
        raise NotRun("No trial of the sweep has reported a result.")
    better = -1 if metric in LOWER_IS_BETTER else 1
    ranked = sorted(told, key=lambda row: better * row[metric], reverse=True)
    failed = [row for row in rows if row["status"] == "failed"]
    full = [row for row in ranked if all(row.get(axis) is not None for axis in axes)]
    wide = [axis for axis in axes if len({row[axis] for row in full}) > 1]
    lines = {row["trial"]: ([e for e, _ in row["curve"]], [v for _, v in row["curve"]]) for row in told}
    return {
        "metric": metric,
        "best": best,
        "axes": axes,
        "rows": ranked[:MOST],
        "more": max(0, len(ranked) - MOST),
        "count": len(rows),
        "failed": failed,
        "chosen": chosen,
        "priced": not rates.free,
        "ended": best.get("ended", ""),
        "dashboard": records.run.get("dashboard"),
        "parallel": charts.parallel(full, axes, chosen, metric) if full else None,
        "learning": charts.learning(lines, chosen, metric, {row["trial"]: row["class"] for row in told}),
        "scatter": [sweep_charts.scatter(full, axis, metric, chosen) for axis in wide],
        "statuses": _statuses(rows),
        **_spent(records, rows, rates),
    }


def trials(table: Iterable[Mapping[str, Any]], axes: list[str], metric: str, rates: Rates) -> list[Row]:
    """A row a trial from a row a trial and epoch: its parameters, best value, curve, status, error, use and USD."""
    best_of = min if metric in LOWER_IS_BETTER else max
    rows: dict[str, Row] = {}
    for record in table:
        name = str(record["trial"])
        row = rows.setdefault(name, {"trial": name, "seconds": 0.0, "epochs": 0, "curve": [], metric: None})
        row |= {axis: record[axis] for axis in axes}
        row |= {"status": record.get("status"), "error": record.get("error") or "", "attempts": record.get("attempts")}
        row["seconds"] = max(float(record.get("seconds") or 0), row["seconds"])
        row["use"] = Use.read(record)
        value, epoch = record.get(metric), record.get("epoch")
        if value is None or value != value or epoch is None:
            continue
        row["epochs"] = epoch
        row["curve"].append((float(epoch), float(value)))
        row[metric] = value if row[metric] is None else best_of(value, row[metric])
    for row in rows.values():
        use = row["use"] or Use(row["seconds"])
        row |= {"use": use, "usd": rates.usd(use), "hours": use.cpu_seconds / 3600, "class": ""}
        row["class"] = sweep_charts.class_of(row["status"])
    return list(rows.values())


def _spent(records: Records, rows: list[Row], rates: Rates) -> dict[str, Any]:
    """Use and cost by status, and what of the time that was held trained a model."""
    by = []
    for status in _statuses(rows):
        some = [row for row in rows if str(row["status"]) == status]
        use = sum((row["use"] for row in some), Use())
        usd = sum(row["usd"] for row in some)
        by.append({"status": status, "class": some[0]["class"], "trials": len(some), "hours": use.cpu_seconds / 3600,
                   "epochs": sum(len(row["curve"]) for row in some), "gpu_hours": use.gpu_seconds / 3600,
                   "usd": usd, "worth": worth(usd)})  # fmt: skip
    weight = "hours" if rates.free else "usd"
    shares = [(b["class"], str(b["status"]), b[weight], _said(b, rates)) for b in by]
    return {
        "by": by,
        "total": worth(sum(b["usd"] for b in by)),
        "hours": sum(b["hours"] for b in by),
        "gpus": any(b["gpu_hours"] for b in by),
        "shares": sweep_charts.parts("use by status", shares) if sum(b[weight] for b in by) else None,
        "slices": _slices(records, rows),
        "saved": _saved(records, rows),
    }


def _statuses(rows: list[Row]) -> list[str]:
    known = list(sweep_charts.STATUSES)
    return sorted({str(row["status"]) for row in rows}, key=lambda s: known.index(s) if s in known else len(known))


def _said(by: Mapping[str, Any], rates: Rates) -> str:
    return f"{short(by['hours'])} core-hours" if rates.free else by["worth"]


def _slices(records: Records, rows: list[Row]) -> dict[str, Any] | None:
    """The time that the sweep held its slots: epochs, what trials needed beside them, and slots with no trial.

    Only where one run did all of it, as nobody knows how long the slots were held before.
    """
    summary, asked = records.summary("tune"), records.run.get("sweep") or {}
    slots, cpu = summary.get("slots"), asked.get("cpu")
    if not slots or not cpu or summary.get("epochs_kept"):
        return None
    held = float(summary["seconds"]) * slots
    busy = sum(row["use"].cpu_seconds for row in rows) / cpu
    epochs = min(busy, sum(row["seconds"] for row in rows))
    named = (("candidate", "epochs", epochs), ("other", "to begin, to save, lost", busy - epochs),
             ("idle", "no trial in the slot", max(0.0, held - busy)))  # fmt: skip
    drawn = sweep_charts.parts("time of the slots", [(c, name, amount, clock(amount)) for c, name, amount in named])
    return {"svg": drawn, "keys": [{"class": c, "said": f"{name} {clock(amount)}"} for c, name, amount in named]}


def _saved(records: Records, rows: list[Row]) -> str:
    """What stopping early has saved, by the stopped trials' own pace."""
    most = (records.run.get("sweep") or {}).get("max_epochs")
    stopped = [row for row in rows if row["status"] == "stopped early" and row["curve"]]
    if not most or not stopped:
        return ""
    hours = sum(row["hours"] / len(row["curve"]) * max(0, most - len(row["curve"])) for row in stopped)
    usd = sum(row["usd"] / len(row["curve"]) * max(0, most - len(row["curve"])) for row in stopped)
    return f"{short(hours)} core-hours" + (f", {worth(usd)}" if usd else "")
