"""Are the features and scores that were served those of the offline table? Compared bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def compare(
    names: Sequence[str],
    served: np.ndarray,
    table: np.ndarray,
    served_scores: np.ndarray | None = None,
    table_scores: np.ndarray | None = None,
    ids: Sequence[Any] | None = None,
    examples: int = 5,
) -> dict[str, Any]:
    """Compare rows that stand for the same events in the same order.

    ``served``, ``table``: float32 (rows, features), compared by their bits: no tolerance, and a NaN or a
    negative zero on one side only is a difference. Scores (rows,) are compared by their largest absolute
    difference; a score that is not finite on one side gives infinity. Returns checked (rows),
    feature_differences (rows), value_differences, by_feature (only features that differ),
    max_score_difference (None without scores) and the first ``examples``. ValueError for other shapes or
    dtypes: a comparison that leaves rows out proves nothing.
    """
    served, table = np.ascontiguousarray(served), np.ascontiguousarray(table)
    if served.dtype != np.float32 or table.dtype != np.float32:
        raise ValueError(f"features must be float32, not {served.dtype} and {table.dtype}")
    if served.shape != table.shape or served.ndim != 2 or served.shape[1] != len(names):
        raise ValueError(f"shapes differ: served {served.shape}, table {table.shape}, {len(names)} names")
    if ids is not None and len(ids) != len(served):
        raise ValueError(f"{len(ids)} ids for {len(served)} rows")
    differs = served.view(np.uint32) != table.view(np.uint32)
    rows = np.flatnonzero(differs.any(axis=1))
    counts = differs.sum(axis=0)
    return {
        "checked": len(served),
        "feature_differences": len(rows),
        "value_differences": int(differs.sum()),
        "by_feature": {name: int(n) for name, n in zip(names, counts, strict=True) if n},
        "max_score_difference": _score_difference(served_scores, table_scores, len(served)),
        "examples": [
            {
                "row": int(row) if ids is None else _plain(ids[row]),
                "feature": names[column],
                "served": float(served[row, column]),
                "table": float(table[row, column]),
            }
            for row in rows[:examples]
            for column in np.flatnonzero(differs[row])[:1]
        ],
    }


def agrees(report: dict[str, Any], score_tolerance: float = 1e-6) -> bool:
    """No feature differs, and no score by more than the tolerance; False when nothing was checked."""
    score = report["max_score_difference"]
    return report["checked"] > 0 and report["feature_differences"] == 0 and (score is None or score <= score_tolerance)


def _score_difference(served: np.ndarray | None, table: np.ndarray | None, rows: int) -> float | None:
    if served is None and table is None:
        return None
    if served is None or table is None or len(served) != rows or len(table) != rows:
        raise ValueError("scores must be given for both sides, one for each row")
    if rows == 0:
        return 0.0
    left, right = np.asarray(served, dtype=np.float64), np.asarray(table, dtype=np.float64)
    if not np.array_equal(np.isfinite(left), np.isfinite(right)):
        return float("inf")
    finite = np.isfinite(left)
    return float(np.abs(left[finite] - right[finite]).max()) if finite.any() else 0.0


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
