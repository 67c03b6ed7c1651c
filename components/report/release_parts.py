"""The report's parts about the releases: traffic, parity, lineage and where to look further."""

from __future__ import annotations

from typing import Any

from components.report.records import NotRun, Records, ledger
from components.report.run_parts import title


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
