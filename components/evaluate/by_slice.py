"""What the models of slices bring on held-out rows, over all rows and slice by slice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from components.evaluate.bundle import Scored
from components.evaluate.measure import compare
from seaway.metrics import NAMED, Bootstrap
from seaway.slices import places, word

_LEARNT = ("rows", "positives", "own", "global", "difference")


def by_slice(
    table: dict[str, Any], metric: str, scored: Scored, values: list[Any], labels: np.ndarray, bootstrap: Bootstrap
) -> dict[str, Any]:
    """The record slices.json: ``table`` (training's routing table) with what was measured on the test rows.

    "routed" and "global" are the metric over all rows with and without the slices' models, "difference" their
    paired difference (positive: slices help) with its interval. "slices" has a record for each value of the
    table: kept, why not, the threshold of its own model, "learnt" (rows, positives, and both models' metric on
    which it was chosen) and "test" (the same on the test rows; None where rows are missing or of one class).
    "unknown": rows of other values.
    """
    routed, alone, gap = compare(metric, scored.model.scores, scored.alone, labels, bootstrap)
    rows_of = dict(places([word(value) for value in values]))
    function = NAMED[metric]
    found = []
    for value, learnt in sorted((table["kept"] | table["left"]).items()):
        here = rows_of.pop(value, np.zeros(0, dtype=np.int64))
        kept = value in table["kept"]
        found.append(
            {
                "slice": value,
                "kept": kept,
                "reason": "" if kept else str(learnt.get("reason", "")),
                "threshold": learnt.get("threshold") if kept else None,
                "learnt": {name: learnt.get(name) for name in _LEARNT},
                "test": {
                    "rows": len(here),
                    "positives": int(labels[here].sum()),
                    "own": _value(function, scored.model.scores[here], labels[here]) if kept else None,
                    "global": _value(function, scored.alone[here], labels[here]),
                },
            }
        )
    return {
        "by": table["by"],
        "metric": metric,
        "chosen_by": table.get("metric", metric),
        "routed": routed,
        "global": alone,
        "difference": asdict(gap),
        "slices": found,
        "unknown": {"values": len(rows_of), "rows": sum(map(len, rows_of.values()))},
    }


def _value(function: Callable[..., Any], scores: np.ndarray, labels: np.ndarray) -> float | None:
    if not len(labels) or labels.min() == labels.max():
        return None
    return float(function(scores, labels))
