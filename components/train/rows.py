"""Rows that a training learns from, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Rows:
    """Raw features float32 (n, f) and labels float32 (n,)."""

    features: np.ndarray
    labels: np.ndarray

    @property
    def bytes(self) -> int:
        return self.features.nbytes + self.labels.nbytes


def standardisation(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation by column, float32 (f,); a constant column gets 1."""
    mean = features.mean(axis=0, dtype=np.float64)
    std = features.std(axis=0, dtype=np.float64)
    # a column that varies less than float32 can hold around its mean is constant
    return mean.astype(np.float32), np.where(std > 1e-6 * (1 + np.abs(mean)), std, 1.0).astype(np.float32)
