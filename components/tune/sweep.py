"""Running the trials: Ray Tune around our trial, searcher, scheduler and progress."""

from __future__ import annotations

import logging
import os
import shutil
from typing import Any

import optuna
from ray import tune
from ray.tune.search import ConcurrencyLimiter
from ray.tune.search.optuna import OptunaSearch

from components.train.loop import Rows
from components.tune.local_ray import local_ray, temporary_folder
from components.tune.order import OBJECTIVE, HalvingInOrder, SearchInOrder
from components.tune.progress import Progress
from components.tune.trial import SweepTrial
from seaway.config import Config


class History(tune.Callback):
    """Every trial as a record: index, params, objective, epochs (list of results), status, error."""

    def __init__(self) -> None:
        self.trials: dict[str, dict[str, Any]] = {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        fresh = {"objective": float("-inf"), "epochs": [], "status": "running", "error": ""}
        self.trials[trial.trial_id] = {**trial.config, **fresh}

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict, **info: Any) -> None:
        record = self.trials[trial.trial_id]
        record["epochs"].append(result)
        record["objective"] = result[OBJECTIVE]

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        record = self.trials[trial.trial_id]
        record["status"] = "failed" if any(e["failed"] for e in record["epochs"]) else "finished"

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        record = self.trials.setdefault(trial.trial_id, {**trial.config, "objective": float("-inf"), "epochs": []})
        record |= {"status": "failed", "error": str(trial.get_error())}


def run_trials(
    config: Config, job: dict[str, Any], space: dict[str, Any], cpus: int, device: str, train: Rows, valid: Rows
) -> list[dict[str, Any]]:
    """Run the sweep's trials on a local Ray of ``cpus``, one core a trial; their records, in order."""
    sweep = config.workload.sweep
    arrays = {
        "train": train.features,
        "train_labels": train.labels,
        "valid": valid.features,
        "valid_labels": valid.labels,
    }
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    gpus = _gpus() if device == "cuda" else 0
    lag = cpus + 1
    results = temporary_folder() / "results" / str(os.getpid())
    history, progress = History(), Progress(sweep.trials, sweep.metric, sweep.max_epochs)
    searcher = OptunaSearch(space=space, metric=OBJECTIVE, mode="max", seed=sweep.seed)
    halving = HalvingInOrder(sweep.grace_epochs, sweep.max_epochs, lag)
    share = {"cpu": 1, "gpu": min(1.0, gpus / cpus)} if gpus else {"cpu": 1}
    with local_ray(cpus, gpus, memory=int(1.3 * sum(array.nbytes for array in arrays.values()))):
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
                callbacks=[history, progress],
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                verbose=0,
            ),
        )
        try:
            tuner.fit()
        finally:
            progress.close()
            shutil.rmtree(results, ignore_errors=True)
    for record in history.trials.values():
        if record["index"] in halving.stopped:
            record["status"] = "stopped early"
    return sorted(history.trials.values(), key=lambda t: t["index"])


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()
