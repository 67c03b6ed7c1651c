"""The report's part about slices: which have a model of their own, what it brings, and why the others fall back."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from components.report import charts
from components.report.records import NotRun, Records
from components.report.svg import words

SHOWN = 25  # of each table; the rest is folded
FEW = 10  # positives below which a slice's value on the test rows says little

Row = dict[str, Any]


def slices(records: Records) -> dict[str, Any]:
    """Both tables, the kinds of reasons with their counts, and what slices bring over all test rows."""
    record = records.find("evaluate", "slices.json")
    if record is None:
        records.folder("evaluate")  # says which is missing: the step or its slices
        raise NotRun("The workload has no slices: one model scores all rows.")
    kept = sorted((_row(part) for part in record["slices"] if part["kept"]), key=_by_gain)
    left = sorted((_row(part) for part in record["slices"] if not part["kept"]), key=lambda row: -(row["rows"] or 0))
    reach = _reach(kept)
    for row in kept:
        row["plot"] = charts.whiskers(_marks(row), -reach, reach, zero=True)
    worse = sum(1 for row in kept if row["gain"] is not None and row["gain"] < 0)
    return {
        "by": record["by"],
        "metric": words(record["metric"]),
        "chosen_by": words(record["chosen_by"]),
        "routed": record["routed"],
        "global": record["global"],
        "difference": record["difference"],
        "worse": worse,
        "kept": {"shown": kept[:SHOWN], "more": kept[SHOWN:]},
        "left": {"shown": left[:SHOWN], "more": left[SHOWN:]},
        "why": Counter(_kind(row["reason"]) for row in left).most_common(),
        "unknown": record["unknown"],
        "reach": reach,
        "few": FEW,
    }


def _row(part: dict[str, Any]) -> Row:
    learnt, test = part["learnt"], part["test"]
    gain = None if test["own"] is None or test["global"] is None else test["own"] - test["global"]
    return {
        "name": part["slice"] or "(empty)",
        "reason": part["reason"],
        "rows": learnt["rows"],
        "positives": learnt["positives"],
        "own": learnt["own"],
        "global": learnt["global"],
        "threshold": part.get("threshold"),
        "chosen": learnt.get("difference"),
        "test": test,
        "gain": gain,
        "few": test["positives"] < FEW,
    }


def _by_gain(row: Row) -> tuple[bool, float]:
    """The worst first: that is where a reader has to look."""
    return (row["gain"] is None or row["few"], row["gain"] or 0.0)


def _marks(row: Row) -> list[tuple[str, float, float, float]]:
    marks = []
    if row["chosen"] and row["chosen"]["low"] is not None:
        marks.append(("even", row["chosen"]["value"], row["chosen"]["low"], row["chosen"]["high"]))
    if row["gain"] is not None:
        class_ = "even" if row["few"] else "better" if row["gain"] > 0 else "worse"
        marks.append((class_, row["gain"], row["gain"], row["gain"]))
    return marks


def _reach(kept: list[Row]) -> float:
    """Half of the plots' width: all intervals, and the values on test rows that are not too few to tell."""
    ends = [abs(v) for row in kept for v in ([row["gain"]] if not row["few"] else []) if v is not None]
    ends += [abs(row["chosen"][n]) for row in kept if row["chosen"] for n in ("low", "high") if row["chosen"][n]]
    return (max(ends, default=0.0) or 0.01) * 1.08


def _kind(reason: str) -> str:
    """A reason without its numbers, so that those of many slices can be counted."""
    if reason.startswith("its fit failed"):
        return "its fit failed"
    if "fewer than" in reason:
        return "fewer than" + re.sub(r"\s[\d.,]+$", "", reason.partition("fewer than")[2])
    if "too few rows to tell" in reason:
        return "perhaps better on later rows, but too few rows to tell"
    if "the global model's" in reason:
        return "not better than the global model on later rows"
    return re.sub(r"\s*\(?\b[\d.,]+\b\)?", "", reason).strip() or "no reason is recorded"
