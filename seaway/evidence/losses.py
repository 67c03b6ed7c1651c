"""Losses of a probability against a label, scaled to [0, 1], so that differences lie in [-1, 1].

    brier   (p - y)^2
    log     (ln(1 - clip) - ln q) / (ln(1 - clip) - ln clip), q = the probability given to the label,
            clipped to [clip, 1 - clip]: 0 for a sure and right answer, 1 for a sure and wrong one

Both are proper (the log loss between clip and 1 - clip): the mean is least for the true probability. A positive
label counts ``positive_weight`` times a negative one; both are then divided by the larger of the two weights, so
the loss stays in [0, 1]. With a weight other than 1 the loss is proper for the reweighted odds (odds times the
weight), as a cost-sensitive decision is; two models are compared alike either way.
"""

from __future__ import annotations

from typing import Any

import numpy as np

KINDS = ("brier", "log")


def loss(kind: str, probability: Any, label: Any, clip: float = 0.01, positive_weight: float = 1.0) -> np.ndarray:
    """Losses in [0, 1], in the shape of ``probability`` and ``label`` (0 or 1) broadcast.

    ValueError for a probability outside 0..1, a label that is neither 0 nor 1, or a setting out of range.
    """
    p, y = np.broadcast_arrays(np.asarray(probability, dtype=np.float64), np.asarray(label, dtype=np.float64))
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("probabilities must lie in [0, 1]")
    if not ((y == 0) | (y == 1)).all():
        raise ValueError("labels must be 0 or 1")
    if not 0 < positive_weight < np.inf:
        raise ValueError(f"positive_weight must be positive, not {positive_weight}")
    if kind == "brier":
        base = (p - y) ** 2
    elif kind == "log":
        if not 0 < clip < 0.5:
            raise ValueError(f"clip must lie between 0 and 0.5, not {clip}")
        q = np.clip(np.where(y == 1, p, 1 - p), clip, 1 - clip)
        least = np.log(1 - clip)
        base = np.clip((least - np.log(q)) / (least - np.log(clip)), 0.0, 1.0)  # clipped for rounding
    else:
        raise ValueError(f"loss {kind!r} is none of {', '.join(KINDS)}")
    return base * np.where(y == 1, positive_weight, 1.0) / max(positive_weight, 1.0)
