"""Measuring several models on the same rows: values, intervals, paired differences, curves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.evaluate.verdict import Estimate
from seaway import metrics

CURVE_POINTS = 200


@dataclass(frozen=True)
class Model:
    """A model's probabilities (n,) on the rows, and the threshold of its decisions."""

    scores: np.ndarray
    threshold: float


@dataclass(frozen=True)
class TopK:
    """Precision of the ``k`` riskiest entities a day: ``days`` and entity ``keys`` by row."""

    days: np.ndarray
    keys: np.ndarray
    k: int


def estimates(
    models: Mapping[str, Model], labels: np.ndarray, bootstrap: metrics.Bootstrap, top: TopK | None
) -> dict[str, dict[str, dict[str, float | None]]]:
    """{model: {metric: {value, low, high}}}; metrics that are not defined have None."""
    points = {name: _measure(model, labels, top) for name, model in models.items()}
    samples: dict[str, dict[str, list[np.ndarray]]] = {n: {m: [] for m in p} for n, p in points.items()}
    for rows, clusters in bootstrap.chunks():
        for name, model in models.items():
            for metric, values in _measure(model, labels, top, rows, clusters).items():
                samples[name][metric].append(values)
    return {
        name: {m: _record(value, np.concatenate(samples[name][m])) for m, value in found.items()}
        for name, found in points.items()
    }


def _measure(
    model: Model,
    labels: np.ndarray,
    top: TopK | None,
    rows: np.ndarray | None = None,
    clusters: np.ndarray | None = None,
) -> dict[str, Any]:
    found = metrics.measure(model.scores, labels, model.threshold, rows)
    if top is not None:
        name = f"precision_at_{top.k}"
        found[name] = metrics.precision_at_k(top.days, top.keys, model.scores, labels, top.k, clusters)
    return found


def _record(value: float, samples: np.ndarray) -> dict[str, float | None]:
    low, high = metrics.interval(samples)
    return {"value": float(value) if np.isfinite(value) else None, "low": low, "high": high}


def compare(
    metric: str, candidate: np.ndarray, other: np.ndarray, labels: np.ndarray, bootstrap: metrics.Bootstrap
) -> tuple[float | None, float | None, Estimate]:
    """The metric of both, and their paired difference; a positive difference is better for the candidate."""
    function = metrics.NAMED[metric]
    sign = -1.0 if metric in metrics.LOWER_IS_BETTER else 1.0
    mine, theirs = function(candidate, labels), function(other, labels)
    draws = [sign * (function(candidate, labels, w) - function(other, labels, w)) for w, _ in bootstrap.chunks()]
    record = _record(sign * (mine - theirs), np.concatenate(draws))
    return _finite(mine), _finite(theirs), Estimate(**record)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def curves(model: Model, labels: np.ndarray) -> dict[str, Any]:
    """ROC and precision-recall as columns of at most 200 points, and calibration by bin."""
    order = np.argsort(-model.scores, kind="stable")
    ranked, hits = model.scores[order], np.cumsum(labels[order], dtype=np.float64)
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    true, taken = hits[ends], ends + 1.0
    recall, fall_out = true / max(hits[-1], 1.0), (taken - true) / max(len(labels) - hits[-1], 1.0)
    # points at equal steps of both axes, so that the steep and the flat part keep their shape
    along = recall + fall_out
    keep = np.unique(np.searchsorted(along, np.linspace(0, along[-1], CURVE_POINTS), side="left"))
    at_recall = np.unique(np.searchsorted(recall, np.linspace(0, 1, CURVE_POINTS), side="left").clip(0, len(ends) - 1))
    bins = metrics.calibration_curve(model.scores, labels)
    return {
        "roc": {"fpr": [0.0, *fall_out[keep].tolist()], "tpr": [0.0, *recall[keep].tolist()]},
        "pr": {"recall": recall[at_recall].tolist(), "precision": (true / taken)[at_recall].tolist()},
        "calibration": {
            "predicted": [b["score"] for b in bins],
            "observed": [b["share"] for b in bins],
            "rows": [b["rows"] for b in bins],
        },
    }
