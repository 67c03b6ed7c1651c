"""The report's part about a release's evidence: every guardrail's two e-values, weights and stages over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.report import charts
from components.report.records import NotRun, Records, seconds_in
from components.report.run_parts import title
from components.report.svg import Times, short

GUARDRAILS = {
    "errors": "Failed requests",
    "latency": "Slow requests",
    "decisions_up": "More positive decisions",
    "decisions_down": "Fewer positive decisions",
    "flips": "Decisions that flip",
    "score_shift": "Shift of single scores",
    "loss": "Loss, as labels arrive",
    "split": "Split of the traffic",
}
PROVISIONAL = "promote provisionally"
SPLIT_AT = 1000.0  # the threshold on E of the check of the split
_MOST = 300  # points of a line


def canary(records: Records) -> dict[str, Any]:
    """Each release's evidence by guardrail, its weights and its events."""
    shown = [_release(release) for release in records.releases]
    if not shown:
        raise NotRun("No candidate has been released in this run.")
    return {"releases": shown}


def _release(release: dict[str, Any]) -> dict[str, Any]:
    told = [*(release.get("evidence") or []), *(_split(row) for row in release.get("split") or [])]
    rows = [{**row, "at": seconds_in(release, row.get("t", 0))} for row in told]
    weights = [(seconds_in(release, w.get("t", 0)), _canary_weight(w)) for w in release.get("weights") or []]
    events = [{**e, "at": seconds_in(release, e.get("t", 0))} for e in release.get("events") or []]
    first = min([0.0, *(r["at"] for r in rows)])
    last = max([first + 1.0, *(r["at"] for r in rows), *(t for t, _ in weights)])
    turn = next((e["at"] for e in events if str(e.get("text", "")).startswith(PROVISIONAL)), None)
    times = Times(math.floor(first), last + 0.01 * (last - first), turn)
    found = dict.fromkeys(str(r["guardrail"]) for r in rows)
    order = sorted(found, key=lambda name: list(GUARDRAILS).index(name) if name in GUARDRAILS else len(GUARDRAILS))
    drawn = [_guardrail(release, name, rows, times) for name in order]
    return {
        "title": title(release),
        "verdict": str(release.get("verdict") or "not decided"),
        "class": str(release.get("verdict") or "").replace(" ", "-"),
        "reason": release.get("reason") or "",
        "faults": release.get("faults") or {},
        "staged": turn is not None,
        "guardrails": drawn,
        "drift": drift(release),
        "events": events,
        "weights": charts.weights([t for t, _ in weights], [w for _, w in weights], times) if weights else None,
    }


def _split(row: dict[str, Any]) -> dict[str, Any]:
    """The split's check as one more guardrail, with one question instead of two."""
    return {**row, "guardrail": "split", "log_e_rollback": row["log_e"]}


def _guardrail(release: dict[str, Any], name: str, rows: Sequence[dict[str, Any]], times: Times) -> dict[str, Any]:
    mine = sorted((r for r in rows if str(r["guardrail"]) == name), key=lambda r: r["at"])
    sides = ("rollback",) if name == "split" else ("promote", "rollback")
    values = {side: [float(r[f"log_e_{side}"]) for r in mine] for side in sides}
    limits = {side: _limit(release, side, name) for side in sides}
    thin = _thinned(mine)
    lines = {side: ([float(r[f"log_e_{side}"]) for r in thin], limits[side]) for side in sides}
    return {
        "name": GUARDRAILS.get(name, name.replace("_", " ")),
        "svg": charts.evidence(name, [r["at"] for r in thin], lines, times, [_tip(r) for r in thin]),
        "seen": _seen(mine[-1]),
        "state": _state(name, values, limits),
    }


def _thinned(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    every = max(1, math.ceil(len(rows) / _MOST))
    kept = rows[::every]
    return kept if kept[-1] is rows[-1] else [*kept, rows[-1]]


def _state(name: str, values: dict[str, list[float]], limits: dict[str, float | None]) -> str:
    reached = {s for s, v in values.items() if limits[s] is not None and max(v) >= limits[s]}
    if name == "split":
        return "not split as told" if reached else "no sign of a wrong split"
    if "rollback" in reached:
        return "harm proven"
    return "shown to be no worse" if "promote" in reached else "undecided"


def _limit(release: dict[str, Any], side: str, guardrail: str) -> float | None:
    """The natural log of a threshold on E, whether it is stored for all guardrails or for each."""
    thresholds = release.get("thresholds") or {}
    value = thresholds.get("split", SPLIT_AT) if guardrail == "split" else thresholds.get(side)
    if isinstance(value, dict):
        value = value.get(guardrail)
    return math.log(float(value)) if value else None


def _canary_weight(entry: dict[str, Any]) -> float:
    """The canary's percentage in a record of weights; 0 when it is not routed to."""
    weights = entry.get("weights") if isinstance(entry.get("weights"), dict) else entry
    return float(weights.get("canary", weights.get("candidate", 0)) or 0)


def _seen(row: dict[str, Any]) -> str:
    """What the evidence was made of."""
    parts = []
    for arm in ("canary", "stable"):
        if isinstance(row.get(arm), dict):
            k, n = int(row[arm].get("k") or 0), int(row[arm].get("n") or 0)
            parts.append(f"{arm} {k:,} of {n:,}" + (f" ({100 * k / n:.3g} %)" if n else ""))
    if row.get("n") is not None:
        what = {"split": "requests", "loss": "labelled pairs"}.get(str(row["guardrail"]), "pairs")
        parts.append(f"{int(row['n']):,} {what}")
        if row.get("told") is not None:
            parts.append(f"{100 * row['mean']:.3g} % to the canary, told {100 * row['told']:.3g} %")
        elif row.get("mean") is not None and row["n"]:
            parts.append(f"mean {short(float(row['mean']))}")
    return " · ".join(parts)


def _tip(row: dict[str, Any]) -> str:
    lines = [f"{row['at']:.0f} s"]
    for side, word in (("promote", "E promote"), ("rollback", "E roll back")):
        if f"log_e_{side}" in row:
            name = "E" if row["guardrail"] == "split" else word
            lines.append(f"{name}: {short(math.exp(min(700.0, float(row[f'log_e_{side}']))))}")
    return "\n".join([*lines, *_seen(row).split(" · ")])


def drift(release: dict[str, Any]) -> list[dict[str, Any]]:
    """PSI and KS of the two versions' answered scores, with what chance alone gives at these sizes; [] without both."""
    from seaway.evidence.drift import ks, psi

    path = Path(release.get("folder", "")) / "predictions.parquet"
    versions = [str((release.get(who) or {}).get("version")) for who in ("champion", "candidate")]
    if not path.is_file():
        return []
    import polars as pl

    try:
        table = pl.read_parquet(path, columns=["version", "status", "probability"])
    except pl.exceptions.PolarsError:
        return []
    good = table.filter(pl.col("status") == 200, pl.col("probability").is_finite())
    old, new = (good.filter(pl.col("version") == v)["probability"].to_numpy() for v in versions)
    if not len(old) or not len(new):
        return []
    found = (("PSI, ten bins of the stable version's scores", "psi", psi(old, new)), ("KS", "ks", ks(old, new)))
    return [{"name": name, "value": f[key], "null": f["null_95"], "n": f["n"], "m": f["m"]} for name, key, f in found]
