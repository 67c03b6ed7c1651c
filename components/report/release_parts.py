"""The report's parts about the releases: evidence, traffic, parity, lineage and where to look further."""

from __future__ import annotations

import math
from typing import Any

from components.report import charts
from components.report.records import NotRun, Records, ledger, seconds_in
from components.report.run_parts import title
from components.report.svg import short

GUARDRAILS = {
    "errors": "Failed requests",
    "latency": "Slow requests",
    "decisions_up": "More positive decisions",
    "decisions_down": "Fewer positive decisions",
}


def canary(records: Records) -> dict[str, Any]:
    """Each release's evidence by guardrail, its weights and its events."""
    shown = [_evidence(release) for release in records.releases]
    if not shown:
        raise NotRun("No candidate has been released in this run.")
    return {"releases": shown}


def _evidence(release: dict[str, Any]) -> dict[str, Any]:
    rows = [{**row, "at": seconds_in(release, row.get("t", 0))} for row in release.get("evidence") or []]
    weights = [(seconds_in(release, w.get("t", 0)), _canary_weight(w)) for w in release.get("weights") or []]
    events = [{**e, "at": seconds_in(release, e.get("t", 0))} for e in release.get("events") or []]
    first = min((r["at"] for r in rows), default=0.0)
    last = max([first + 1.0, *(r["at"] for r in rows), *(t for t, _ in weights)])
    span = (math.floor(first), last + 0.02 * (last - first))
    drawn = []
    for name in dict.fromkeys(str(r["guardrail"]) for r in rows):
        mine = sorted((r for r in rows if str(r["guardrail"]) == name), key=lambda r: r["at"])
        limits = tuple(_limit(release, side, name) for side in ("promote", "rollback"))
        promote, rollback = ([float(r[f"log_e_{side}"]) for r in mine] for side in ("promote", "rollback"))
        svg = charts.evidence(name, [r["at"] for r in mine], promote, rollback, limits, span, [_tip(r) for r in mine])
        end = mine[-1]
        drawn.append(
            {
                "name": GUARDRAILS.get(name, name.replace("_", " ")),
                "svg": svg,
                "canary": end.get("canary") or {},
                "stable": end.get("stable") or {},
                "state": _state(promote, rollback, limits),
            }
        )
    return {
        "title": title(release),
        "verdict": str(release.get("verdict") or "not decided"),
        "class": str(release.get("verdict") or "").replace(" ", "-"),
        "reason": release.get("reason") or "",
        "faults": release.get("faults") or {},
        "guardrails": drawn,
        "events": events,
        "weights": charts.weights([t for t, _ in weights], [w for _, w in weights], span) if weights else None,
    }


def _state(promote: list[float], rollback: list[float], limits: tuple[float | None, ...]) -> str:
    if limits[1] is not None and max(rollback) >= limits[1]:
        return "harm proven"
    if limits[0] is not None and max(promote) >= limits[0]:
        return "shown to be no worse"
    return "undecided"


def _limit(release: dict[str, Any], side: str, guardrail: str) -> float | None:
    """The natural log of a threshold on E, whether it is stored for all guardrails or for each."""
    thresholds = release.get("thresholds") or {}
    value = thresholds.get(side)
    if isinstance(value, dict):
        value = value.get(guardrail)
    return math.log(float(value)) if value else None


def _canary_weight(entry: dict[str, Any]) -> float:
    """The canary's percentage in a record of weights; 0 when it is not routed to."""
    weights = entry.get("weights") if isinstance(entry.get("weights"), dict) else entry
    return float(weights.get("canary", weights.get("candidate", 0)) or 0)


def _tip(row: dict[str, Any]) -> str:
    lines = [f"{row['at']:.0f} s"]
    for side, word in (("promote", "E promote"), ("rollback", "E roll back")):
        lines.append(f"{word}: {short(math.exp(min(700.0, float(row[f'log_e_{side}']))))}")
    for arm in ("canary", "stable"):
        if row.get(arm):
            lines.append(f"{arm}: {row[arm].get('k', 0):,} of {row[arm].get('n', 0):,}")
    return "\n".join(lines)


def traffic(records: Records) -> dict[str, Any]:
    """Requests, failures and answer times, in all and by predictor."""
    rows = []
    for release in records.releases:
        record = release.get("traffic")
        if not isinstance(record, dict) or not record:
            continue
        rows.append({"title": title(release), "who": "all", "strong": True, **record})
        parts = record.get("by_predictor") or {}
        for who, part in parts.items():
            rows.append({"title": "", "who": who, **(part if isinstance(part, dict) else {"sent": part})})
    if not rows:
        raise NotRun("No traffic was sent.")
    return {"rows": rows}


def parity(records: Records) -> dict[str, Any]:
    """Whether the served features and scores equal the offline ones."""
    rows = [{"title": title(r), **p} for r in records.releases if isinstance(p := r.get("parity"), dict) and p]
    if not rows:
        raise NotRun("Served answers were not compared with the offline table.")
    return {"rows": rows}


def lineage(records: Records) -> dict[str, Any]:
    """Who came from what: the registered version's lineage and the ledger's newest entries."""
    version = records.find("register", "version.json") or {}
    facts = dict(version.get("lineage") or {})
    first = records.releases[0].get("candidate") if records.releases else None
    if not facts and isinstance(first, dict):
        facts = dict(first.get("lineage") or {k: v for k, v in first.items() if not isinstance(v, dict | list)})
    entries = ledger(records.home)
    if not facts and not entries and not version:
        raise NotRun("No model version was registered.")
    facts = {
        "model": version.get("name"),
        "version": version.get("version"),
        "alias": version.get("alias"),
        "run_id": version.get("run_id"),
        "run": records.run.get("run"),
        **facts,
        "bundle": version.get("bundle"),
    }
    return {"facts": _flat({k: v for k, v in facts.items() if v is not None}), "ledger": entries}


def _flat(record: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in record.items():
        name = f"{prefix}{key}".replace("_", " ")
        flat |= _flat(value, f"{name}: ") if isinstance(value, dict) else {name: value}
    return flat


def further(records: Records) -> dict[str, Any]:
    """The model card's text and the commands that open the rest."""
    card = None
    try:
        path = records.folder("register") / "model_card.md"
        card = path.read_text() if path.is_file() else None
    except (NotRun, OSError):
        path = None
    home = records.home
    return {
        "card": card,
        "card_path": path,
        "mlflow": f".venv/bin/mlflow ui --backend-store-uri sqlite:///{home / 'mlflow.db'} --port 5000",
        "folders": [str(r["folder"]) for r in records.releases],
    }
