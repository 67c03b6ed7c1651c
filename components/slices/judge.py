"""Whether a slice's own model is kept: the evaluation's paired comparison with the global model, on its later rows."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from components.evaluate.measure import compare
from seaway.metrics import Bootstrap

MIN_GROUPS = 10  # of fewer entities than these a resample says nothing about others


def resamples(rows: int, number: int, seed: int, groups: np.ndarray | None) -> Bootstrap:
    """Resamples of a slice's rows: whole ``groups`` (rows,), or single rows where the slice has too few groups."""
    few = groups is None or len(np.unique(groups)) < MIN_GROUPS
    return Bootstrap(rows, number, seed, None if few else groups)


def judge(metric: str, own: np.ndarray, others: np.ndarray, labels: np.ndarray, bootstrap: Bootstrap) -> dict[str, Any]:
    """The record kept, reason, own, global, difference {value, low, high} of two models' scores (n,) on the same rows.

    Kept is the own model where the whole 95 % interval of the paired difference is on its side. ``reason`` is ""
    then, and else what the comparison said.
    """
    mine, theirs, gap = compare(metric, own, others, labels, bootstrap)
    record = {"own": mine, "global": theirs, "difference": asdict(gap)}
    if mine is None or theirs is None or gap.value is None or gap.low is None or gap.high is None:
        return {**record, "kept": False, "reason": f"{metric} cannot be compared on its {len(labels)} later rows"}
    if gap.low > 0:
        return {**record, "kept": True, "reason": ""}
    said = f"{metric} on later rows is {mine:.4f}, the global model's {theirs:.4f}"
    if gap.value > 0:
        said += f": too few rows to tell (the gain lies between {gap.low:+.4f} and {gap.high:+.4f})"
    return {**record, "kept": False, "reason": said}
