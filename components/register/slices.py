"""What a version says of its slices: in the registry's tags, in version.json and on the model card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seaway.artifacts import read_json
from seaway.slices import FILE


def routing(model: Path) -> dict[str, Any] | None:
    """{"by", "kept": [values], "left": {value: why}} of a bundle; None for one without slices."""
    if not (model / FILE).exists():
        return None
    table = read_json(model / FILE)
    left = {value: str(record.get("reason", "")) for value, record in table["left"].items()}
    return {"by": table["by"], "kept": sorted(table["kept"]), "left": left}


def tags(found: dict[str, Any] | None) -> dict[str, str]:
    """The tag by which a version with slices is known in the registry's lists."""
    if not found:
        return {}
    return {"slices": f"by {found['by']}: {len(found['kept'])} own models, {len(found['left'])} fall back"}


def measured(model: Path, evaluation: Path) -> dict[str, Any] | None:
    """The evaluation's slices.json, without its measurements where it has none; None for a bundle without slices."""
    if (evaluation / FILE).exists():
        return read_json(evaluation / FILE)
    found = routing(model)
    if not found:
        return None
    pairs = sorted({**dict.fromkeys(found["kept"], ""), **found["left"]}.items())
    parts = [{"slice": value, "kept": value in found["kept"], "reason": why} for value, why in pairs]
    return {"by": found["by"], "slices": parts}
