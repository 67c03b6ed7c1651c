"""Attributions for a sample of rows: what moves the scores, in numbers and in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seaway.attribution import contributions, reason_codes
from seaway.slices import GLOBAL

SAMPLE_ROWS = 100
SHOWN_ROWS = 12


@dataclass(frozen=True)
class Explainer:
    """A model, float32 (n, f) to (n,), and the reference rows float32 (b, f) that its scores are compared with."""

    score: Callable[[np.ndarray], np.ndarray]
    background: np.ndarray


def attributions(
    explainer: Callable[[str], Explainer],
    own: Sequence[str],
    features: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    ids: Sequence[Any],
    names: Sequence[str],
    reasons: Mapping[str, str],
    seed: int,
    *,
    sliced: bool = False,
) -> dict[str, Any]:
    """Mean absolute contribution by feature over a sample, and single rows with reason codes.

    Half of the sample are the rows with the highest scores, where decisions are made; half are drawn at
    random. Shown are half the highest and half of the random ones. Contributions are in probability.

    ``own``: by row, whose model scores it (a slice, or "" for the global one); ``explainer`` gives that model
    and its baseline, so that a row's contributions add up to the score that it gets. ``sliced``: say the slice.
    """
    rows = len(scores)
    highest = np.argsort(-scores, kind="stable")[: min(SAMPLE_ROWS // 2, rows)]
    rest = np.setdiff1d(np.arange(rows), highest)
    drawn = np.random.default_rng(seed).permutation(rest)[: SAMPLE_ROWS - len(highest)]
    sample = np.concatenate([highest, drawn])
    known = {name: explainer(name) for name in dict.fromkeys(("", *(own[i] for i in sample)))}
    phi = np.stack([contributions(known[own[i]].score, features[i], known[own[i]].background) for i in sample])
    # a score is its model's expected one plus the row's contributions
    expected = {name: float(np.mean(e.score(e.background))) for name, e in known.items()}
    half = SHOWN_ROWS // 2
    shown = [*range(min(half, len(highest))), *range(len(highest), min(len(highest) + half, len(sample)))]
    return {
        "mean_abs": {name: float(v) for name, v in zip(names, np.abs(phi).mean(axis=0), strict=True)},
        "reasons": dict(reasons),
        "expected": expected[""],
        "rows": len(sample),
        "sample": [
            {
                "id": ids[sample[j]],
                **({"slice": own[sample[j]] or GLOBAL} if sliced else {}),
                "expected": expected[own[sample[j]]],
                "probability": float(scores[sample[j]]),
                "label": int(labels[sample[j]]),
                "reasons": reason_codes(phi[j], names, features[sample[j]], reasons),
            }
            for j in shown
        ],
    }
