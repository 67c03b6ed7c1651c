"""The card model: a few small torch networks in one, from raw features to one logit.

Amounts, counts and shares are skewed, and what matters about them are thresholds ("more than a few",
"any at all"). So each feature enters standardised, as a logarithm, and as steps: ramps from 0 to 1 between
neighbouring points of a fixed grid (piecewise-linear encoding, Gorishniy et al. 2022, arXiv:2203.05556).
The networks ("members") see the same rows, start from different weights and share no others; the logit is
the mean of theirs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

# grid points on the logarithmic axis and on the standardised one
LOG_UNIT, LOG_STEPS, LINEAR_STEPS, STEP = 0.05, (0.0, 6.0), (-2.0, 3.0), 0.5


def build(params: Mapping[str, Any], mean: np.ndarray, std: np.ndarray) -> Any:
    """A network from raw float32 rows (n, f) to logits (n,); ``.members(rows)`` gives (members, n).

    ``params``: hidden (units), layers, dropout, members; other keys are ignored, missing ones get
    defaults. ``mean``, ``std``: float (f,), learnt on training rows; they are buffers of the exported graph.
    """
    import torch
    from torch import nn

    width, depth = int(params.get("hidden", 64)), max(1, int(params.get("layers", 2)))
    dropout, count = float(params.get("dropout", 0.2)), int(params.get("members", 4))

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            scale = np.where(np.asarray(std) > 0, std, 1.0)
            self.register_buffer("mean", torch.as_tensor(np.asarray(mean), dtype=torch.float32))
            self.register_buffer("std", torch.as_tensor(scale, dtype=torch.float32))
            self.register_buffer("log_grid", torch.arange(*LOG_STEPS, STEP))
            self.register_buffer("linear_grid", torch.arange(*LINEAR_STEPS, STEP))
            size = len(scale) * (2 + len(self.log_grid) + len(self.linear_grid))
            sizes = [size] + [width] * depth
            self.weights = nn.ParameterList(
                nn.Parameter(torch.randn(count, a, b) * math.sqrt(2 / a)) for a, b in itertools.pairwise(sizes)
            )
            self.biases = nn.ParameterList(nn.Parameter(torch.zeros(count, 1, b)) for b in sizes[1:])
            self.last = nn.Parameter(torch.randn(count, sizes[-1], 1) * math.sqrt(1 / sizes[-1]))
            self.offset = nn.Parameter(torch.zeros(count, 1, 1))
            self.drop = nn.Dropout(dropout)

        def encode(self, rows: torch.Tensor) -> torch.Tensor:
            linear = (rows - self.mean) / self.std
            logs = torch.sign(rows) * torch.log1p(torch.abs(rows) / (LOG_UNIT * self.std))
            ramps = [
                torch.clamp((axis.unsqueeze(2) - grid) / STEP, 0.0, 1.0).flatten(1)
                for axis, grid in ((logs, self.log_grid), (linear, self.linear_grid))
            ]
            return torch.cat([linear, logs - 2.0, *ramps], dim=1)

        def members(self, rows: torch.Tensor) -> torch.Tensor:
            # all members' first layers in one product, which is most of the work
            first = self.weights[0].transpose(0, 1).flatten(1)
            hidden = torch.matmul(self.encode(rows), first).unflatten(1, (count, -1)).transpose(0, 1)
            hidden = self.drop(torch.relu(hidden + self.biases[0]))
            for weight, bias in zip(self.weights[1:], self.biases[1:], strict=True):
                hidden = self.drop(torch.relu(torch.matmul(hidden, weight) + bias))
            return (torch.matmul(hidden, self.last) + self.offset).squeeze(2)

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return self.members(rows).mean(dim=0)

    return Network()
