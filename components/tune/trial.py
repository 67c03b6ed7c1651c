"""One trial of the sweep, in a worker process: an epoch a step, a checkpoint after each."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from ray import tune

from components.ray.place import bring, keep, keeping
from components.train.loop import Rows, Training
from components.tune.order import OBJECTIVE
from seaway.artifacts import record_hash
from seaway.hooks import resolve
from seaway.metrics import LOWER_IS_BETTER


def checkpoint_file(folder: Path, index: int, params: dict[str, Any]) -> Path:
    """Where trial ``index`` keeps its state; other parameters would be another file."""
    return folder / f"{index:04d}-{record_hash(params)[:12]}.safetensors"


def failure_file(folder: Path, index: int, params: dict[str, Any]) -> Path:
    """Where it stands that trial ``index`` has failed for good, and why: later ones were suggested knowing it."""
    return checkpoint_file(folder, index, params).with_suffix(".failed.json")


def make_training(
    job: dict[str, Any], params: dict[str, Any], train: Rows, valid: Rows, epochs: int | None = None
) -> Training:
    """The training of one trial; ``job`` names the model module, its root, the metric, seed and epochs.

    ``epochs``: the one that a part of a longer training ends with; patience is not for parts.
    """
    model = resolve(job["model"], Path(job["root"]))
    return Training(
        model.build,
        params,
        train,
        valid,
        max_epochs=epochs or job["max_epochs"],
        metric=job["metric"],
        patience=epochs or job["patience"],
        seed=job["seed"],
        device=job["device"],
    )


class SweepTrial(tune.Trainable):
    """Config: index and params; "epochs" and "parent" where it goes on from another's state (population.py).

    Epochs already in the checkpoint are reported again, not trained again.

    All that can go wrong is in ``step``: Ray tries again what fails there.
    """

    def setup(self, config: dict[str, Any], job: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        import torch

        torch.set_num_threads(job["threads"])
        self._job = job
        self._train = Rows(arrays["train"], arrays["train_labels"])
        self._valid = Rows(arrays["valid"], arrays["valid_labels"])
        self._training: Training | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._training = None
        return True

    def _begin(self, index: int, params: dict[str, Any]) -> Training:
        folder, remote = Path(self._job["folder"]), self._job["remote"]
        self._file, failed = checkpoint_file(folder, index, params), failure_file(folder, index, params)
        parent, (self._before, last) = self.config.get("parent"), self.config.get("epochs", (0, None))
        training = make_training(self._job, params, self._train, self._valid, last)
        with keeping(f"the state of trial {index}", folder):
            bring(remote, self._file)
            bring(remote, failed)
        if not training.load(self._file) and parent:
            origin = checkpoint_file(folder, parent["index"], parent["params"])
            with keeping(f"the state of trial {parent['index']}", folder):
                bring(remote, origin)
            training.adopt(origin)
        self._recorded, self._failure = len(training.history), ""
        with suppress(OSError, ValueError):
            self._failure = json.loads(failed.read_text())["error"]
        return training

    def step(self) -> dict[str, Any]:
        if self._training is None:
            self._training = self._begin(self.config["index"], self.config["params"])
        training, number, metric = self._training, self._before + self.iteration, self._job["metric"]
        lower = metric in LOWER_IS_BETTER
        if number < self._recorded:
            record, last = training.history[number], number + 1 == self._recorded
        elif self._failure:
            return self._failed(number, self._failure)
        else:
            try:
                record, last = training.epoch(), True
            except FloatingPointError:
                return self._failed(number)  # a trial that diverges ends with the worst value; the sweep goes on
            with keeping(f"the state of trial {self.config['index']}", self._file.parent):
                training.save(self._file)
                keep(self._job["remote"], self._file, last=training.finished)
        history = training.history[self._before : number + 1]
        values = [-r[metric] if lower else r[metric] for r in history]
        return {
            **record,
            OBJECTIVE: max(values),
            "seconds": sum(r["seconds"] for r in history),
            "replayed": number < self._recorded,
            "failed": False,
            "done": last and training.finished,
        }

    def _failed(self, number: int, error: str = "") -> dict[str, Any]:
        worst = 1.0 if self._job["metric"] in LOWER_IS_BETTER else 0.0
        values = {"epoch": number + 1, "loss": 0.0, self._job["metric"]: worst, OBJECTIVE: -1e9}
        return {**values, "seconds": 0.0, "replayed": False, "failed": True, "done": True, "error": error}
