"""The card model: a few small torch networks in one, from raw features to one logit.

Amounts, counts and shares are skewed, and what matters about them are thresholds ("more than a few",
"any at all"). So each feature enters standardised, as a logarithm, and as steps: ramps from 0 to 1 between
neighbouring points of a fixed grid (piecewise-linear encoding, Gorishniy et al. 2022, arXiv:2203.05556).
The networks ("members") see the same rows, start from different weights and share no others; the logit is
the mean of theirs. Some may be given less: the standardised features alone, or with the logarithms. Those
are smoother and err elsewhere, which is what a mean is good for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from seaway.errors import SeawayError

# grid points on the logarithmic axis and on the standardised one
LOG_UNIT, LOG_STEPS, LINEAR_STEPS, STEP = 0.05, (0.0, 6.0), (-2.0, 3.0), 0.5


def build(params: Mapping[str, Any], mean: np.ndarray, std: np.ndarray) -> Any:
    """A network from raw float32 rows (n, f) to logits (n,); ``.members(rows)`` gives (members, n).

    ``params``: hidden (units), layers, dropout, members, and of these ``plain`` without logarithms and
    steps and ``logs`` without steps (default none); other keys are ignored, missing ones get defaults.
    ``mean``, ``std``: float (f,), learnt on training rows; they are buffers of the exported graph.
    """
    import torch
    from torch import nn

    width, depth = int(params.get("hidden", 64)), max(1, int(params.get("layers", 2)))
    dropout, count = float(params.get("dropout", 0.2)), int(params.get("members", 4))
    plain, logged = int(params.get("plain", 0)), int(params.get("logs", 0))
    if min(plain, logged, count - plain - logged) < 0:
        raise SeawayError(f"{count} members cannot have {plain} plain and {logged} logs among them")

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            scale = np.where(np.asarray(std) > 0, std, 1.0)
            self.register_buffer("mean", torch.as_tensor(np.asarray(mean), dtype=torch.float32))
            self.register_buffer("std", torch.as_tensor(scale, dtype=torch.float32))
            self.register_buffer("log_grid", torch.arange(*LOG_STEPS, STEP))
            self.register_buffer("linear_grid", torch.arange(*LINEAR_STEPS, STEP))
            features, steps = len(scale), len(self.log_grid) + len(self.linear_grid)
            groups = ((plain, features), (logged, 2 * features), (count - plain - logged, (2 + steps) * features))
            self.groups = [(n, size) for n, size in groups if n]

            def weight(n: int, a: int, b: int, gain: float = 2.0) -> nn.Parameter:
                return nn.Parameter(torch.randn(n, a, b) * math.sqrt(gain / a))

            self.first = nn.ParameterList(weight(n, size, width) for n, size in self.groups)
            self.weights = nn.ParameterList(weight(count, width, width) for _ in range(depth - 1))
            self.biases = nn.ParameterList(nn.Parameter(torch.zeros(count, 1, width)) for _ in range(depth))
            self.last = weight(count, width, 1, gain=1.0)
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
            encoded = self.encode(rows)
            parts = []
            for (n, size), first in zip(self.groups, self.first, strict=True):
                # a group's first layers in one product, which is most of the work
                product = torch.matmul(encoded[:, :size], first.transpose(0, 1).flatten(1))
                parts.append(product.unflatten(1, (n, -1)).transpose(0, 1))
            hidden = self.drop(torch.relu(torch.cat(parts) + self.biases[0]))
            for weight, bias in zip(self.weights, self.biases[1:], strict=True):
                hidden = self.drop(torch.relu(torch.matmul(hidden, weight) + bias))
            return (torch.matmul(hidden, self.last) + self.offset).squeeze(2)

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return self.members(rows).mean(dim=0)

    return Network()
