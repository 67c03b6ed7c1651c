"""The report's parts about the run: headline, pipeline and data. Each gives what its template shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.report import cost_parts
from components.report.dag import clock, dag
from components.report.records import NotRun, Records, moment
from components.report.svg import short, words

WORDS = {
    "promoted": "was promoted",
    "provisional": "was promoted provisionally",
    "rolled back": "was rolled back",
    "held": "was held",
}


def title(release: dict[str, Any]) -> str:
    """What a candidate is called in this report."""
    candidate = release.get("candidate") or {}
    name = candidate.get("version")
    text = f"Version {name}" if name is not None else str(release.get("release", "The candidate"))
    label = candidate.get("label") or release.get("label")
    return f"{text} ({label})" if label else text


def headline(records: Records) -> dict[str, Any]:
    """The verdicts in plain words and the numbers that matter most."""
    cards = []
    for release in records.releases:
        verdict = str(release.get("verdict") or "not decided")
        began, ended = moment(release.get("started")), moment(release.get("decided") or release.get("ended"))
        took = f" after {clock((ended - began).total_seconds())}" if began and ended else ""
        champion = (release.get("champion") or {}).get("version")
        cards.append(
            {
                "verdict": verdict,
                "class": verdict.replace(" ", "-"),
                "title": title(release),
                "words": f"{title(release)} {WORDS.get(verdict, verdict)}{took}.",
                "reason": _brief(str(release.get("reason") or "")),
                "faults": release.get("faults") or {},
                "against": f"against version {champion}"
                if champion is not None
                else "with no champion to compare with",
                "release": release.get("release", ""),
            }
        )
    return {"cards": cards, "numbers": _numbers(records)}


def _brief(reason: str) -> str:
    """A long reason without its numbers, which the evidence shows below."""
    return reason if len(reason) <= 160 else f"{reason.split('. ')[0].split(': ')[0]}."


def _numbers(records: Records) -> list[dict[str, str]]:
    tiles = []
    best = (records.find("evaluate", "metrics.json") or {}).get("candidate") or {}
    for name in ("average_precision", "auc_roc"):
        if isinstance(best.get(name), dict):
            m = best[name]
            note = f"{short(m['low'])} to {short(m['high'])}"
            tiles.append({"name": words(name), "value": short(m["value"]), "note": note})
    traffic = [t for r in records.releases if isinstance(t := r.get("traffic"), dict) and t.get("sent")]
    if traffic:
        sent, failed = (sum(int(t.get(key) or 0) for t in traffic) for key in ("sent", "failed"))
        tiles.append({"name": "requests served", "value": f"{sent:,}", "note": f"{failed:,} failed"})
        p50, p99 = (traffic[0].get(key) for key in ("p50_ms", "p99_ms"))
        if p50 is not None:
            note = f"p99 {short(p99)} ms" if p99 else ""
            tiles.append({"name": "answer time, median", "value": f"{short(p50)} ms", "note": note})
    parity = [p for r in records.releases if isinstance(p := r.get("parity"), dict) and p.get("checked")]
    if parity:
        wrong, checked = int(parity[0].get("feature_differences") or 0), int(parity[0]["checked"])
        tiles.append({"name": "feature differences", "value": f"{wrong:,}", "note": f"in {checked:,} served requests"})
    steps = records.run.get("steps") or []
    if steps:
        ran = sum(s.get("status") == "done" for s in steps)
        tiles.append(
            {
                "name": "pipeline",
                "value": clock(sum(float(s.get("seconds") or 0) for s in steps)),
                "note": f"{ran} of {len(steps)} steps ran",
            }
        )
    return tiles + cost_parts.tile(records)


def pipeline(records: Records) -> dict[str, Any]:
    """The steps as a graph and as a table."""
    steps = records.run.get("steps") or []
    if not steps:
        raise NotRun("No pipeline run is on record.")
    return {"graph": dag(steps), "steps": [{**s, "clock": clock(float(s.get("seconds") or 0))} for s in steps]}


def data(records: Records) -> dict[str, Any]:
    """What came in, what was set aside and why, and how the rows were split."""
    sources = {name: s for name, s in records.summary("validate").items() if isinstance(s, dict) and "rows_in" in s}
    if not sources:
        raise NotRun("The data were not validated in this run.")
    splits = []
    for name, part in sorted(_splits(records).items(), key=lambda item: str(item[1].get("start"))):
        splits.append({"name": name, **part, "share": part["positives"] / part["rows"] if part.get("rows") else None})
    return {"sources": sources, "splits": splits, "examples": _quarantined(records)}


def _splits(records: Records) -> dict[str, dict[str, Any]]:
    summary = records.summary("dataset")
    summary = summary.get("splits", summary)
    return {k: v for k, v in summary.items() if isinstance(v, dict) and "rows" in v and "positives" in v}


def _quarantined(records: Records, most: int = 8) -> list[dict[str, Any]]:
    path = records.outputs("validate").get("quarantine")
    return records.table(Path(path), most).to_dicts() if path and Path(path).is_file() else []
