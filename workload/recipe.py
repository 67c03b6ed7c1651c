"""How the protocol's models are fitted: the torch network, and logistic regression beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from workload.model import build

WARM_UP = 100  # steps of linear rise of the learning rate


def scores(kind: str, params: Mapping[str, Any], train: np.ndarray, labels: np.ndarray, rows: np.ndarray, seed: int):
    """Fit on ``train`` (n, f) and 0/1 ``labels`` (n,); return the scores of ``rows`` (m, f), float32 (m,)."""
    return _FITTED[kind](params, train, labels, rows, seed)


def _logistic(params: Mapping[str, Any], train: np.ndarray, labels: np.ndarray, rows: np.ndarray, seed: int):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=params["C"], random_state=seed))
    return model.fit(train, labels).predict_proba(rows)[:, 1]


def _network(params: Mapping[str, Any], train: np.ndarray, labels: np.ndarray, rows: np.ndarray, seed: int):
    import torch

    torch.set_num_threads(1)  # folds run side by side; small matrices gain nothing from more
    model = fit(params, train, labels, seed)
    with torch.no_grad():
        parts = [torch.sigmoid(model.members(part)).mean(dim=0) for part in torch.as_tensor(rows).split(4096)]
    return torch.cat(parts).numpy()


def fit(params: Mapping[str, Any], train: np.ndarray, labels: np.ndarray, seed: int) -> Any:
    """The fitted torch model, in evaluation mode; the same seed gives the same weights on the CPU.

    ``params`` beside those of ``workload.model.build``: learning_rate, weight_decay, batch_size, epochs,
    negatives. An epoch shows every positive and the next ``negatives`` share of the negatives, since
    positives are under one in a hundred and most negatives are easy; this shifts probabilities, not ranks,
    and the shift is taken out of the logit at the end.
    """
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits as loss_of

    torch.manual_seed(seed)
    draw = torch.Generator().manual_seed(seed)
    mean, std = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
    model = build(params, mean, std)
    inputs, target = torch.as_tensor(train), torch.as_tensor(labels, dtype=torch.float32)
    positives, negatives = torch.nonzero(target > 0)[:, 0], torch.nonzero(target == 0)[:, 0]
    share = min(1.0, float(params.get("negatives", 1.0)))
    taken = max(1, int(len(negatives) * share))
    size, rate = int(params["batch_size"]), float(params["learning_rate"])
    batches = max(1, (len(positives) + taken) // size)
    steps = batches * int(params["epochs"])
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=float(params.get("weight_decay", 0.0)))
    model.train()
    deck, step = negatives[:0], 0
    for _ in range(int(params["epochs"])):
        if len(deck) < taken:
            deck = negatives[torch.randperm(len(negatives), generator=draw)]
        rows, deck = torch.cat([positives, deck[:taken]]), deck[taken:]
        rows = rows[torch.randperm(len(rows), generator=draw)]
        for i in range(batches):
            for group in optimiser.param_groups:
                group["lr"] = rate * min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / steps))
            batch = rows[i * size : (i + 1) * size]
            logits = model.members(inputs[batch])
            # each member learns by itself: the sum of their losses, not the loss of their mean
            loss = loss_of(logits, target[batch].expand_as(logits)) * len(logits)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            step += 1
    with torch.no_grad():
        model.offset += math.log(taken / len(negatives))
    return model.eval()


_FITTED = {"logistic": _logistic, "network": _network}
