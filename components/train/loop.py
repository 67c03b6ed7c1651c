"""The one training loop: used by the sweep's trials and by the final training.

Rows stay in memory as tensors. Everything random is a function of the seed and the epoch, so a run
that stops and continues from its checkpoint takes the same path as one that never stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from components.train.device import pick_device, pick_dtype
from components.train.group import Group, check_rows_are_judged_alone
from components.train.rows import Rows, standardisation
from components.train.state import read, under, write
from seaway.artifacts import record_hash
from seaway.errors import SeawayError
from seaway.metrics import LOWER_IS_BETTER, NAMED

BUILD = Callable[[Mapping[str, Any], np.ndarray, np.ndarray], Any]


def better(metric: str, value: float, than: float | None) -> bool:
    return than is None or (value < than if metric in LOWER_IS_BETTER else value > than)


class Training:
    """One model in training: ``epoch()`` until ``finished``, then ``model`` holds the best weights.

    ``params`` go to ``build`` and give learning_rate, batch_size, weight_decay and negative_share: where
    positives are rare, an epoch takes all of them and a fresh random share of the negatives, which
    weigh 1 / share in the loss, so that its expectation, and with it calibration, stays. With ``valid`` each
    epoch is measured by ``metric`` and the best epoch's weights are kept; training ends at
    ``max_epochs`` or after ``patience`` epochs without a better one. Without ``valid`` it runs
    ``max_epochs``. ``precision``: ``auto`` is mixed (bfloat16, or float16 with a gradient scaler) on
    CUDA and float32 on a CPU. ``group``: workers that do so together, with the same arguments; each computes
    its part of every batch, whose size stays ``batch_size``, and worker 0 measures. All hold the same weights.
    """

    def __init__(
        self,
        build: BUILD,
        params: Mapping[str, Any],
        train: Rows,
        valid: Rows | None,
        *,
        max_epochs: int,
        metric: str = "average_precision",
        patience: int = 5,
        seed: int = 0,
        device: str = "auto",
        precision: str = "auto",
        group: Group | None = None,
    ) -> None:
        import torch

        if metric not in NAMED:
            raise SeawayError(f"sweep.metric {metric!r} is not one of {', '.join(NAMED)}")
        if len(train.labels) == 0 or train.labels.min() == train.labels.max():
            raise SeawayError(f"{len(train.labels)} training rows, all of one class: take a longer split.train")
        self.metric, self.max_epochs, self.patience, self.seed = metric, max_epochs, patience, seed
        self.device = pick_device(device)
        # the same switch as use_deterministic_algorithms, without its import of the compiler (seconds)
        torch.set_deterministic_debug_mode("error" if self.device == "cpu" else "default")
        torch.manual_seed(seed)
        self.model = build(params, *standardisation(train.features)).to(self.device)
        self._group = group
        if group:
            check_rows_are_judged_alone(self.model)
            for tensor in self.model.state_dict().values():
                group.first_(tensor)
        self._x = torch.tensor(train.features).to(self.device)
        self._y = torch.tensor(train.labels).to(self.device)
        self._valid = valid
        self._batch = int(params.get("batch_size", 256))
        self._share = float(params.get("negative_share", 1.0))
        self._negatives, self._positives = (torch.from_numpy(np.flatnonzero(train.labels == v)) for v in (0, 1))
        self._rate, self._decay = float(params.get("learning_rate", 1e-3)), float(params.get("weight_decay", 1e-4))
        self._moments: dict[int, dict[str, Any]] = {}  # of the optimizer, read and not yet used
        self._dtype = pick_dtype(precision, self.device)
        self._scaler = torch.amp.GradScaler(self.device, enabled=self._dtype == torch.float16)
        self._identity = record_hash(
            {"params": dict(params), "seed": seed, "rows": list(train.features.shape), "metric": metric}
        )
        self.history: list[dict[str, float]] = []
        self.best: dict[str, float] | None = None
        self._since = 0  # epochs that are another training's
        self._best_weights: dict[str, Any] = self._weights()

    @cached_property
    def _optimizer(self) -> Any:
        """Made when first wanted: torch then imports its compiler (seconds), which who only scores can spare."""
        import torch

        made = torch.optim.AdamW(self.model.parameters(), lr=self._rate, weight_decay=self._decay, fused=True)
        if self._moments:
            made.load_state_dict({"state": self._moments, "param_groups": made.state_dict()["param_groups"]})
        return made

    @property
    def finished(self) -> bool:
        done = len(self.history)
        stale = self.best is not None and done - self.best["epoch"] >= self.patience
        return done >= self.max_epochs or (self._valid is not None and stale)

    def epoch(self) -> dict[str, float]:
        """Train one epoch; its record: epoch (from 1), loss, seconds and, with valid rows, the metric."""
        import torch

        started, number = time.perf_counter(), len(self.history) + 1
        torch.manual_seed(self.seed * 100_003 + number)
        rows = self._rows_of_epoch()
        loss_of = torch.nn.functional.binary_cross_entropy_with_logits
        mixed = self._dtype != torch.float32
        self.model.train()
        total = torch.zeros((), device=self.device)
        if self._group:  # the rows are drawn; from here each worker draws for itself, as its rows are others
            torch.manual_seed((self.seed * 100_003 + number) * 1_009 + self._group.rank)
        for whole in rows.split(self._batch):
            batch = self._group.part(whole) if self._group else whole
            self._optimizer.zero_grad(set_to_none=True)
            if len(batch):
                with torch.autocast(self.device, dtype=self._dtype, enabled=mixed):
                    logits = self.model(self._x[batch])
                y = self._y[batch]
                loss = loss_of(logits.float(), y, weight=torch.where(y > 0, 1.0, 1.0 / self._share))
                if self._group:  # of the mean over the whole batch, this part
                    loss = loss * (len(batch) / len(whole))
                self._scaler.scale(loss).backward()
                total += loss.detach() * len(whole)
            if self._group:
                self._group.sum_gradients(self.model.parameters())
            self._scaler.step(self._optimizer)
            self._scaler.update()
        if self._group:
            self._group.sum_(total)
        record = {"epoch": number, "loss": float(total) / len(rows)}
        if not np.isfinite(record["loss"]):
            raise FloatingPointError(f"the loss is {record['loss']} in epoch {number}: the learning rate is too high")
        if self._valid is not None:
            record[self.metric] = self._measured(self._valid)
            if better(self.metric, record[self.metric], self.best and self.best[self.metric]):
                self.best, self._best_weights = record, self._weights()
        record["seconds"] = time.perf_counter() - started
        self.history.append(record)
        return record

    def _measured(self, valid: Rows) -> float:
        import torch

        if self._group is None or self._group.rank == 0:
            value = float(NAMED[self.metric](self.scores(valid.features), valid.labels))
        else:
            value = 0.0
        if self._group:  # one measures, so that all stop at the same epoch
            value = float(self._group.first_(torch.tensor(value, dtype=torch.float64, device=self.device)))
        return value

    def _rows_of_epoch(self) -> Any:
        """Row numbers in random order: every positive and the epoch's share of the negatives."""
        import torch

        number = max(1, round(self._share * len(self._negatives)))
        some = self._negatives[torch.randperm(len(self._negatives))[:number]]
        rows = torch.cat([self._positives, some])
        return rows[torch.randperm(len(rows))].to(self.device)

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Probabilities float32 (n,) of the current weights, computed in float32."""
        import torch

        self.model.eval()
        with torch.inference_mode():
            parts = [torch.sigmoid(self.model(part.to(self.device))) for part in torch.tensor(features).split(8192)]
            return torch.cat(parts).cpu().numpy() if parts else np.zeros(0, dtype=np.float32)

    def keep_best(self) -> None:
        """Put the best epoch's weights into ``model``; without valid rows those are the last."""
        if self._valid is not None:
            self.model.load_state_dict(self._best_weights)

    def _weights(self) -> dict[str, Any]:
        return {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    def save(self, path: Path) -> None:
        """Write all that is needed to go on: one safetensors file, whole or absent."""
        tensors = {f"model.{name}": tensor for name, tensor in self._weights().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self._best_weights.items()}
        state = self._optimizer.state_dict()["state"]
        tensors |= {f"optimizer.{i}.{name}": value for i, part in state.items() for name, value in part.items()}
        meta = {"identity": self._identity, "history": self.history, "since": self._since}
        meta["scaler"] = self._scaler.state_dict()
        write(path, tensors, meta)

    def load(self, path: Path) -> bool:
        """Go on from a checkpoint; False when there is none, or it is of other parameters or data."""
        found = read(path, self.device)
        if found is None or found[0]["identity"] != self._identity:
            return False
        meta, tensors = found
        self._take(meta, tensors)
        self._best_weights = under(tensors, "best.")
        self._since = meta.get("since", 0)
        for record in self.history[self._since :]:
            if self.metric in record and better(self.metric, record[self.metric], self.best and self.best[self.metric]):
                self.best = record
        return True

    def adopt(self, path: Path) -> None:
        """Go on from where a training of other parameters stood, with parameters of one's own.

        Its weights, its optimizer's state and its history are taken; the best epoch is sought among those to come.
        Raises SeawayError when there is no such state, or its weights are of other shapes.
        """
        found = read(path, self.device)
        if found is None:
            raise SeawayError(f"{path} holds no state of a training to go on from")
        try:
            self._take(*found)
        except (RuntimeError, KeyError) as error:
            raise SeawayError(f"{path} is of a model with other weights ({str(error)[:200]})") from None
        self._since, self.best = len(self.history), None

    def _take(self, meta: Mapping[str, Any], tensors: Mapping[str, Any]) -> None:
        """Weights, optimizer, scaler and history; the optimizer's own settings stay those of ``params``."""
        self.model.load_state_dict(under(tensors, "model."))
        parts: dict[int, dict[str, Any]] = {}
        for name, value in under(tensors, "optimizer.").items():
            index, key = name.split(".", 1)
            parts.setdefault(int(index), {})[key] = value
        self._moments = parts
        self.__dict__.pop("_optimizer", None)
        self._scaler.load_state_dict(meta["scaler"])
        self.history = list(meta["history"])
