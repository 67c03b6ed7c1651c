"""Running the trials: Ray Tune around our trial, searcher, scheduler and progress."""

from __future__ import annotations

import logging
import os
import shutil
from typing import Any

import optuna
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.search import ConcurrencyLimiter
from ray.tune.search.optuna import OptunaSearch

from components.train.loop import Rows
from components.tune.local_ray import local_ray, temporary_folder
from components.tune.order import OBJECTIVE, HalvingInOrder, SearchInOrder
from components.tune.place import Place
from components.tune.progress import Progress
from components.tune.trial import SweepTrial
from seaway.config import Config


class History:
    """Watches trials and keeps what they report."""

    def __init__(self) -> None:
        self._trials: dict[int, tuple[Trial, list[dict[str, Any]]]] = {}

    def reported(self, trial: Trial, result: dict[str, Any]) -> None:
        self._trials.setdefault(trial.config["index"], (trial, []))[1].append(result)

    def ended(self, trial: Trial) -> None:
        self._trials.setdefault(trial.config["index"], (trial, []))

    def records(self, stopped: set[int]) -> list[dict[str, Any]]:
        """By index: index, params, objective, epochs (list of results), status, error (text, or empty)."""
        return [self._record(*self._trials[index], index in stopped) for index in sorted(self._trials)]

    @staticmethod
    def _record(trial: Trial, epochs: list[dict[str, Any]], stopped: bool) -> dict[str, Any]:
        error = str(trial.get_error() or "").strip()
        failed = error or not epochs or any(e["failed"] for e in epochs)
        status = "failed" if failed else "stopped early" if stopped else "finished"
        objective = float("-inf") if failed else epochs[-1][OBJECTIVE]
        return {**trial.config, "epochs": epochs, "objective": objective, "status": status, "error": error}


def run_trials(
    config: Config,
    job: dict[str, Any],
    space: dict[str, Any],
    cpus: int,
    device: str,
    train: Rows,
    valid: Rows,
    place: Place | None = None,
) -> list[dict[str, Any]]:
    """Run the sweep's trials, ``cpus`` at a time, on a Ray of our own, a core each, or at ``place``; their records."""
    sweep = config.workload.sweep
    arrays = {
        "train": train.features,
        "train_labels": train.labels,
        "valid": valid.features,
        "valid_labels": valid.labels,
    }
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    gpus = _gpus() if device == "cuda" and not place else 0
    lag = cpus + 1
    results = temporary_folder() / "results" / str(os.getpid())
    history, progress = (
        History(),
        Progress(sweep.trials, sweep.metric, sweep.max_epochs, place.stream if place else None),
    )
    searcher = OptunaSearch(space=space, metric=OBJECTIVE, mode="max", seed=sweep.seed)
    halving = HalvingInOrder(sweep.grace_epochs, sweep.max_epochs, lag, (history, progress))
    share: dict[str, float] = {"cpu": 1, "gpu": min(1.0, gpus / cpus)} if gpus else {"cpu": 1}
    memory = int(1.3 * sum(array.nbytes for array in arrays.values()))
    if place and place.gpu:
        share["gpu"] = 1
    with progress, place.open() if place else local_ray(cpus, gpus, memory):
        for name in ("ray", "ray.tune", "ray.train"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(SweepTrial, job=job, arrays=arrays), share),
            tune_config=tune.TuneConfig(
                num_samples=sweep.trials,
                search_alg=ConcurrencyLimiter(SearchInOrder(searcher, lag), max_concurrent=cpus),
                scheduler=halving,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=str(results),
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                verbose=0,
            ),
        )
        try:
            tuner.fit()
        finally:
            shutil.rmtree(results, ignore_errors=True)
    return history.records(halving.stopped)


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()
