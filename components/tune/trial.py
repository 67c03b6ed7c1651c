"""One trial of the sweep, in a worker process: an epoch a step, a checkpoint after each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ray import tune

from components.train.loop import Rows, Training
from components.tune.order import OBJECTIVE
from components.tune.place import bring, keep
from seaway.artifacts import record_hash
from seaway.hooks import resolve
from seaway.metrics import LOWER_IS_BETTER

_FAILED = {"seconds": 0.0, "replayed": False, "failed": True, "done": True}


def checkpoint_file(folder: Path, index: int, params: dict[str, Any]) -> Path:
    """Where trial ``index`` keeps its state; other parameters would be another file."""
    return folder / f"{index:04d}-{record_hash(params)[:12]}.safetensors"


def make_training(job: dict[str, Any], params: dict[str, Any], train: Rows, valid: Rows) -> Training:
    """The training of one trial; ``job`` names the model module, its root, the metric, seed and epochs."""
    model = resolve(job["model"], Path(job["root"]))
    return Training(
        model.build,
        params,
        train,
        valid,
        max_epochs=job["max_epochs"],
        metric=job["metric"],
        patience=job["patience"],
        seed=job["seed"],
        device=job["device"],
    )


class SweepTrial(tune.Trainable):
    """Config: index and params. Epochs already in the checkpoint are reported again, not trained again."""

    def setup(self, config: dict[str, Any], job: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        import torch

        torch.set_num_threads(1)
        self._job = job
        self._train = Rows(arrays["train"], arrays["train_labels"])
        self._valid = Rows(arrays["valid"], arrays["valid_labels"])
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._file = checkpoint_file(Path(self._job["folder"]), config["index"], config["params"])
        self._training = make_training(self._job, config["params"], self._train, self._valid)
        bring(self._job["remote"], self._file)
        self._training.load(self._file)
        self._recorded = len(self._training.history)

    def step(self) -> dict[str, Any]:
        number, metric = self.iteration, self._job["metric"]
        lower = metric in LOWER_IS_BETTER
        if number < self._recorded:
            record, last = self._training.history[number], number + 1 == self._recorded
        else:
            try:
                record, last = self._training.epoch(), True
            except FloatingPointError:
                # a trial that diverges ends with the worst value; the sweep goes on
                worst = 1.0 if lower else 0.0
                return {"epoch": number + 1, "loss": 0.0, metric: worst, OBJECTIVE: -1e9, **_FAILED}
            self._training.save(self._file)
            keep(self._job["remote"], self._file, last=self._training.finished)
        history = self._training.history[: number + 1]
        values = [-r[metric] if lower else r[metric] for r in history]
        return {
            **record,
            OBJECTIVE: max(values),
            "seconds": sum(r["seconds"] for r in history),
            "replayed": number < self._recorded,
            "failed": False,
            "done": last and self._training.finished,
        }
