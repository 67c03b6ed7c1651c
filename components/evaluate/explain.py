"""Attributions for a sample of rows: what moves the scores, in numbers and in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from seaway.attribution import contributions, reason_codes

SAMPLE_ROWS = 100
SHOWN_ROWS = 12


def attributions(
    score: Callable[[np.ndarray], np.ndarray],
    features: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    ids: Sequence[Any],
    names: Sequence[str],
    background: np.ndarray,
    reasons: Mapping[str, str],
    seed: int,
) -> dict[str, Any]:
    """Mean absolute contribution by feature over a sample, and single rows with reason codes.

    Half of the sample are the rows with the highest scores, where decisions are made; half are drawn at
    random. Shown are half the highest and half of the random ones. Contributions are in probability.
    """
    rows = len(scores)
    highest = np.argsort(-scores, kind="stable")[: min(SAMPLE_ROWS // 2, rows)]
    rest = np.setdiff1d(np.arange(rows), highest)
    drawn = np.random.default_rng(seed).permutation(rest)[: SAMPLE_ROWS - len(highest)]
    sample = np.concatenate([highest, drawn])
    phi = np.stack([contributions(score, features[i], background) for i in sample])
    half = SHOWN_ROWS // 2
    shown = [*range(min(half, len(highest))), *range(len(highest), min(len(highest) + half, len(sample)))]
    return {
        "mean_abs": {name: float(v) for name, v in zip(names, np.abs(phi).mean(axis=0), strict=True)},
        "reasons": dict(reasons),
        "expected": float(np.mean(score(background))),
        "rows": len(sample),
        "sample": [
            {
                "id": ids[sample[j]],
                "probability": float(scores[sample[j]]),
                "label": int(labels[sample[j]]),
                "reasons": reason_codes(phi[j], names, features[sample[j]], reasons),
            }
            for j in shown
        ],
    }
