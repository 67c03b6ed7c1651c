"""The failure model: a straight line plus a small hidden layer, from raw features to one logit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def build(params: Mapping[str, Any], mean: np.ndarray, std: np.ndarray) -> Any:
    """A network from raw float32 rows (n, f) to logits (n,).

    ``params``: units (width of the hidden layer); the other keys are for the training loop. ``mean`` and
    ``std``, float (f,), were learnt on the training rows; as buffers they go into the exported graph.
    """
    import torch
    from torch import nn

    units = int(params.get("units", 32))

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.as_tensor(np.asarray(mean), dtype=torch.float32))
            self.register_buffer("std", torch.as_tensor(np.asarray(std), dtype=torch.float32))
            self.line = nn.Linear(len(self.mean), 1)
            self.curve = nn.Sequential(nn.Linear(len(self.mean), units), nn.Tanh(), nn.Linear(units, 1))

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            z = (rows - self.mean) / self.std
            return (self.line(z) + self.curve(z)).squeeze(1)

    return Network()
