"""How good scores are: ranking, decisions, calibration, the k riskiest a day, and how sure we are of each.

Every metric takes optional ``weights`` (resamples, rows): how often each row is in each bootstrap
resample. With weights it returns float64 (resamples,), without a float. Two models measured with the
same weights give paired differences. A metric that is not defined (one class only) is NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

METRICS = ("auc_roc", "average_precision", "precision", "recall", "f1", "brier", "calibration_error")
LOWER_IS_BETTER = frozenset({"brier", "calibration_error"})
_BINS = 10


def auc_roc(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> float | np.ndarray:
    """Chance that a random positive scores above a random negative; a tie counts half."""
    return ranking(scores, labels, weights)["auc_roc"]


def average_precision(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> float | np.ndarray:
    """Sum over thresholds of precision times the step in recall, without interpolation."""
    return ranking(scores, labels, weights)["average_precision"]


def ranking(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> dict[str, float | np.ndarray]:
    """auc_roc and average_precision together; rows of one score are one step."""
    order = np.argsort(-np.asarray(scores), kind="stable")
    ranked, positive = np.asarray(scores)[order], np.flatnonzero(np.asarray(labels)[order] > 0)
    weight = np.ones((1, len(order)), dtype=np.float32) if weights is None else weights[:, order]
    seen = np.cumsum(weight, axis=1, dtype=np.float64)
    hits = np.cumsum(weight[:, positive], axis=1, dtype=np.float64)
    if len(positive) == 0:
        undefined = _shaped(np.full(len(weight), np.nan), weights)
        return {"auc_roc": undefined, "average_precision": undefined}
    # both sums have terms only where a positive is: the steps that hold one, by their first and last row
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    step = np.unique(np.searchsorted(ends, positive))
    last = ends[step]
    hits_to = hits[:, np.searchsorted(positive, last, side="right") - 1]
    seen_to = seen[:, last]
    seen_before = np.where(step > 0, seen[:, ends[step - 1]], 0.0)
    hits_before = np.concatenate([np.zeros((len(weight), 1)), hits_to[:, :-1]], axis=1)
    gained, all_hits = hits_to - hits_before, hits[:, -1]
    misses = seen[:, -1] - all_hits
    above = ((seen_to - hits_to) + (seen_before - hits_before)) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        auc = (gained * (misses[:, None] - above)).sum(axis=1) / (all_hits * misses)
        precision = (np.nan_to_num(hits_to / seen_to) * gained).sum(axis=1) / all_hits
    return {"auc_roc": _shaped(auc, weights), "average_precision": _shaped(precision, weights)}


def _shaped(values: np.ndarray, weights: np.ndarray | None) -> float | np.ndarray:
    return float(values[0]) if weights is None else values


def decisions(
    scores: np.ndarray, labels: np.ndarray, threshold: float, weights: np.ndarray | None = None
) -> dict[str, float | np.ndarray]:
    """Precision, recall and F1 of "score >= threshold"; precision of no decision at all is 0."""
    label, flagged = np.asarray(labels, dtype=np.float64), (np.asarray(scores) >= threshold).astype(np.float64)
    columns = np.stack([label * flagged, flagged, label], axis=1)
    hits, chosen, actual = _total(columns, weights).T
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(chosen > 0, hits / chosen, 0.0)
        recall = hits / actual
        f1 = 2 * hits / (chosen + actual)
    return {"precision": _shaped(precision, weights), "recall": _shaped(recall, weights), "f1": _shaped(f1, weights)}


def _total(columns: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Weighted column sums, (resamples, columns)."""
    return columns.sum(axis=0, keepdims=True) if weights is None else weights.astype(np.float32) @ columns


def best_threshold(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """The score from which on "positive" gives the best F1, and that F1; the highest such score on ties."""
    order = np.argsort(-scores, kind="stable")
    ranked = np.asarray(scores, dtype=np.float64)[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    hits = np.cumsum(np.asarray(labels, dtype=np.float64)[order])[ends]
    f1 = 2 * hits / (ends + 1 + max(hits[-1], 1.0))
    best = int(np.argmax(f1))
    return float(ranked[ends[best]]), float(f1[best])


def brier(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> float | np.ndarray:
    """Mean squared distance of probability and outcome."""
    squares = (np.asarray(scores, dtype=np.float64) - labels) ** 2
    columns = np.stack([squares, np.ones_like(squares)], axis=1)
    total, n = _total(columns, weights).T
    return _shaped(total / n, weights)


def calibration_error(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> float | np.ndarray:
    """Expected calibration error: mean |mean score - share of positives| over ten bins of equal rows."""
    gap = (np.asarray(scores, dtype=np.float64) - labels)[:, None]
    inside = _bin_of(scores)[:, None] == np.arange(_BINS)[None, :]
    gaps = _total(gap * inside, weights)
    n = len(gap) if weights is None else weights.sum(axis=1, dtype=np.float64)
    return _shaped(np.abs(gaps).sum(axis=1) / n, weights)


def _bin_of(scores: np.ndarray) -> np.ndarray:
    """Equal scores share a bin, so the result does not depend on the order of rows."""
    ordered = np.sort(scores)
    return np.searchsorted(ordered, scores, side="left") * _BINS // max(len(ordered), 1)


def calibration_curve(scores: np.ndarray, labels: np.ndarray) -> list[dict[str, float]]:
    """Reliability points: per bin of equal rows the mean score, the share of positives and the rows."""
    groups, points = _bin_of(scores), []
    for group in np.unique(groups):
        inside = groups == group
        points.append(
            {"score": float(scores[inside].mean()), "share": float(labels[inside].mean()), "rows": int(inside.sum())}
        )
    return points


def precision_at_k(
    days: np.ndarray,
    keys: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    k: int,
    weights: np.ndarray | None = None,
) -> float | np.ndarray:
    """Mean over days of the share of positives among the ``k`` entities with the highest score.

    Per day each entity (``keys``) has its highest score and its highest label; a positive entity that
    was among the k is known from then on and left out of later days. Equal scores: the lower key first.
    ``weights`` (resamples, distinct keys in sorted order) resamples whole entities.
    """
    names, code = np.unique(keys, return_inverse=True)
    weight = np.ones((1, len(names))) if weights is None else weights.astype(np.float64)
    shares = []
    for day in np.unique(days):
        today = days == day
        top = np.full(len(names), -np.inf)
        np.maximum.at(top, code[today], scores[today])
        hit = np.zeros(len(names))
        np.maximum.at(hit, code[today], labels[today])
        order = np.argsort(-top, kind="stable")
        order = order[top[order] > -np.inf]
        before = np.cumsum(weight[:, order], axis=1) - weight[:, order]
        chosen = np.clip(k - before, 0.0, weight[:, order])
        shares.append((chosen * hit[order]).sum(axis=1) / k)
        found = order[hit[order] > 0]
        weight = weight.copy()
        weight[:, found] = np.where(chosen[:, hit[order] > 0] > 0, 0.0, weight[:, found])
    return _shaped(np.mean(shares, axis=0), weights)


class Bootstrap:
    """Seeded resamples of rows, drawn as whole clusters where ``clusters`` (rows,) names each row's own.

    Rows of one entity resemble each other; resampling them one by one would make intervals too narrow.
    """

    def __init__(self, rows: int, resamples: int, seed: int = 0, clusters: np.ndarray | None = None) -> None:
        self.resamples, self.seed = resamples, seed
        labels = np.arange(rows) if clusters is None else np.unique(clusters, return_inverse=True)[1]
        self._cluster, self._count = labels, int(labels.max()) + 1 if rows else 0

    def chunks(self, size: int = 25) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pairs of weights by row (r, rows) and by cluster (r, clusters in sorted order), uint8-sized counts."""
        draw = np.random.default_rng(self.seed)
        for start in range(0, self.resamples, size):
            number = min(size, self.resamples - start)
            picks = draw.integers(0, self._count, size=(number, self._count))
            by_cluster = np.stack([np.bincount(p, minlength=self._count) for p in picks]).astype(np.float32)
            yield by_cluster[:, self._cluster], by_cluster


def interval(samples: np.ndarray, level: float = 0.95) -> tuple[float | None, float | None]:
    """The central interval of resampled values; (None, None) when most are not defined."""
    kept = samples[np.isfinite(samples)]
    if len(kept) * 2 <= len(samples):
        return None, None
    low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def measure(
    scores: np.ndarray, labels: np.ndarray, threshold: float, weights: np.ndarray | None = None
) -> dict[str, float | np.ndarray]:
    """All of ``METRICS`` for one model's scores."""
    return {
        **ranking(scores, labels, weights),
        **decisions(scores, labels, threshold, weights),
        "brier": brier(scores, labels, weights),
        "calibration_error": calibration_error(scores, labels, weights),
    }


NAMED: Mapping[str, Callable[[np.ndarray, np.ndarray], float | np.ndarray]] = {
    "auc_roc": auc_roc,
    "average_precision": average_precision,
    "brier": brier,
}
