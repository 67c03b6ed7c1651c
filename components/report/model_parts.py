"""The report's parts about the model: curves, metrics and gates, segments, attributions."""

from __future__ import annotations

from typing import Any

from components.report import charts
from components.report.records import NotRun, Records
from components.report.svg import words

WHO = ("candidate", "champion", "baseline")
_COLUMNS = {"roc": ("fpr", "tpr"), "pr": ("recall", "precision"), "calibration": ("predicted", "observed")}


def curves(records: Records) -> dict[str, Any]:
    """ROC, precision-recall and calibration of candidate, champion and baseline."""
    record = records.json("evaluate", "curves.json")
    drawn = []
    for kind, name in (("roc", "ROC"), ("pr", "Precision and recall"), ("calibration", "Calibration")):
        series = {who: points for who in WHO if (points := _points(record, kind, who))}
        if series:
            drawn.append({"title": name, "svg": charts.curve(kind, series), "models": list(series)})
    if not drawn:
        raise NotRun("The evaluation has drawn no curves.")
    return {"curves": drawn, "models": [w for w in WHO if any(w in c["models"] for c in drawn)]}


def _points(record: dict[str, Any], kind: str, who: str) -> charts.Points | None:
    """A curve's two columns, or None when the model has none."""
    curve = (record.get(who) or {}).get(kind)
    if not curve:
        return None
    x, y = (curve[name] for name in _COLUMNS[kind])
    return (x, y) if x else None


def metrics(records: Records) -> dict[str, Any]:
    """Each metric with its interval for each model, and the gates that made the verdict."""
    record = records.json("evaluate", "metrics.json")
    verdict = records.find("evaluate", "verdict.json") or {}
    models = [who for who in WHO if isinstance(record.get(who), dict)]
    names = list(dict.fromkeys(name for who in models for name in record[who]))
    rows = []
    for name in names:
        cells = {who: _interval(record[who].get(name)) for who in models}
        found = [(who, c["value"], c["low"], c["high"]) for who, c in cells.items() if c]
        if not found:
            continue
        low, high = min(f[2] for f in found), max(f[3] for f in found)
        pad = (high - low) * 0.08 or 0.01
        plain = all(f[2] == f[3] for f in found)
        rows.append(
            {
                "name": words(name),
                "cells": cells,
                "plot": None if plain else charts.whiskers(found, low - pad, high + pad),
            }
        )
    return {"models": models, "rows": rows, "verdict": verdict, "gates": verdict.get("gates") or []}


def _interval(value: Any) -> dict[str, float] | None:
    """{value, low, high} of a metric that is a record or a bare number."""
    if isinstance(value, dict) and value.get("value") is not None:
        v = float(value["value"])
        low, high = value.get("low"), value.get("high")
        return {"value": v, "low": v if low is None else float(low), "high": v if high is None else float(high)}
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"value": float(value), "low": float(value), "high": float(value)}
    return None


def segments(records: Records) -> dict[str, Any]:
    """Where the candidate is better or worse than the champion, group by group."""
    rows = records.json("evaluate", "segments.json")
    if not rows:
        raise NotRun("The workload names no segments.")
    known = [r for r in rows if r.get("difference") is not None and r.get("enough")]
    ends = [abs(v) for r in known for v in (r.get("low"), r.get("high"), r["difference"]) if v is not None]
    reach = (max(ends, default=0) or 0.01) * 1.08
    shown = []
    for row in rows:
        plot = None
        if row in known:
            low = row["low"] if row.get("low") is not None else row["difference"]
            high = row["high"] if row.get("high") is not None else row["difference"]
            class_ = "worse" if high < 0 else "better" if low > 0 else "even"
            plot = charts.whiskers([(class_, row["difference"], low, high)], -reach, reach, zero=True)
        shown.append({**row, "plot": plot})
    verdict = records.find("evaluate", "verdict.json") or {}
    return {
        "rows": shown,
        "compared": any(r.get("champion") is not None for r in rows),
        "reach": reach,
        "metric": words(str(verdict.get("metric") or "the gate metric")),
    }


def attributions(records: Records) -> dict[str, Any]:
    """Which features move the score, over a sample and for single rows."""
    record = records.json("evaluate", "attributions.json")
    means = record.get("mean_abs")
    if not means:
        raise NotRun("The evaluation has no attributions.")
    top = sorted(((str(k), float(v)) for k, v in means.items()), key=lambda item: -abs(item[1]))
    most = abs(top[0][1]) or 1.0
    texts = record.get("reasons") or {}
    bars = [{"name": n, "words": texts.get(n, ""), "value": v, "width": 100 * abs(v) / most} for n, v in top]
    rows = [{**row, "reasons": [r["text"] for r in row["reasons"]]} for row in record.get("sample") or []]
    return {"bars": bars, "rows": rows[::2][:6]}
