"""The plain model beside ours: logistic regression on standardised features."""

from __future__ import annotations

from typing import Any

import numpy as np

from components.train.rows import Rows, standardisation


def fit_baseline(rows: Rows) -> Any:
    """A torch module, raw float32 (n, f) to logits (n,), with scikit-learn's fitted coefficients."""
    import torch
    from sklearn.linear_model import LogisticRegression

    mean, std = standardisation(rows.features)
    fitted = LogisticRegression(max_iter=1000).fit((rows.features - mean) / std, rows.labels)

    class Linear(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.from_numpy(mean))
            self.register_buffer("std", torch.from_numpy(std))
            self.body = torch.nn.Linear(len(mean), 1)
            with torch.no_grad():
                self.body.weight.copy_(torch.from_numpy(fitted.coef_.astype(np.float32)))
                self.body.bias.copy_(torch.from_numpy(fitted.intercept_.astype(np.float32)))

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return self.body((rows - self.mean) / self.std).squeeze(1)

    return Linear().eval()
