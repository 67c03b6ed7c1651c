"""The card model: a small torch network from raw features to one logit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def build(params: Mapping[str, Any], mean: np.ndarray, std: np.ndarray) -> Any:
    """A network from raw float32 rows (n, f) to logits (n,).

    ``params``: hidden (units), layers, dropout; other keys are ignored, missing ones get defaults.
    ``mean``, ``std``: float (f,), learnt on training rows; kept as buffers, so they are in the exported
    graph. Amounts and counts are skewed: each feature enters standardised and as a signed logarithm.
    """
    import torch
    from torch import nn

    width = int(params.get("hidden", 128))
    depth = int(params.get("layers", 2))
    dropout = float(params.get("dropout", 0.1))

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            scale = np.where(np.asarray(std) > 0, std, 1.0)
            self.register_buffer("mean", torch.as_tensor(np.asarray(mean), dtype=torch.float32))
            self.register_buffer("std", torch.as_tensor(scale, dtype=torch.float32))
            stack: list[nn.Module] = []
            size = 2 * len(scale)
            for _ in range(depth):
                stack += [nn.Linear(size, width), nn.ReLU(), nn.Dropout(dropout)]
                size = width
            self.body = nn.Sequential(*stack, nn.Linear(size, 1))

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            z = (rows - self.mean) / self.std
            logs = torch.sign(z) * torch.log1p(torch.abs(z))
            return self.body(torch.cat([z, logs], dim=1)).squeeze(1)

    return Network()
