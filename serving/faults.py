"""A model server that harms on purpose, to show that a bad candidate is rolled back."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from serving.model_server import ModelServer


class InjectedFault(RuntimeError):
    """The failure that was asked for."""


class FaultyModelServer(ModelServer):
    """Fails a share ``error_rate`` of requests, answers ``latency_ms`` late, mixes up the model's inputs.

    The same ``seed`` gives the same sequence of failures and the same mix-up.
    """

    def __init__(
        self,
        bundle: str,
        online_store: str = "{}",
        project: str = "seaway",
        error_rate: float = 0.0,
        latency_ms: float = 0.0,
        shuffle_features: bool = False,
        seed: int = 0,
        **further: Any,
    ):
        super().__init__(bundle, online_store, project, **further)
        if not 0 <= error_rate <= 1 or latency_ms < 0:
            raise ValueError("error_rate must be within 0 and 1, and latency_ms not negative")
        self.error_rate, self.latency_ms, self.shuffle_features, self.seed = (
            error_rate,
            latency_ms,
            shuffle_features,
            seed,
        )
        self._draw = np.random.default_rng(seed)
        self._lock = threading.Lock()

    def _answer(self, message: Any) -> dict[str, Any]:
        time.sleep(self.latency_ms / 1000)
        with self._lock:
            fails = self._draw.random() < self.error_rate
        if fails:
            raise InjectedFault("a fault on purpose")
        return super()._answer(message)

    def score(self, features: np.ndarray, own: Sequence[str] = ()) -> np.ndarray:
        if self.shuffle_features:
            order = np.random.default_rng(self.seed).permutation(features.shape[1])
            features = np.ascontiguousarray(features[:, order])
        return super().score(features, own)
