"""Random search and Optuna's own successive halving, each as two plain processes: the other sides of ``target``.

``python -m benchmarks.scale.rivals SIDE FOLDER SEED WORKER STUDY`` is one process: it prints ``begin`` with the time
at which its first trial begins, then a line an epoch with time, trial and value, and goes on until it is ended. A trial
is the sweep's own (components.tune.trial.make_training), on one thread.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.scale import subject

NEVER = 10**6  # epochs of patience: every trial to its last epoch
# the best of several settings by simulation on the recorded curves; its own defaults took longer
PRUNER = {"min_resource": 3, "reduction_factor": 3}


def trials(folder: Path, patience: int | None = None) -> Callable[[dict[str, Any]], Iterator[tuple[int, float]]]:
    """A function from parameters to the (epoch, value) of a trial as it trains; it ends early where it diverges."""
    import torch

    from components.train.data import read_rows
    from components.tune.trial import make_training

    torch.set_num_threads(1)
    config, spec = subject.configured(folder)
    sweep = config.workload.sweep
    train, valid = (read_rows(config, spec, folder / "dataset" / f"{n}.parquet") for n in ("sweep_train", "valid"))
    job = {
        "model": config.workload.model,
        "root": str(config.root),
        "metric": sweep.metric,
        "max_epochs": sweep.max_epochs,
        "patience": patience or sweep.patience,
        "seed": sweep.seed,
        "device": "cpu",
    }

    def run(params: dict[str, Any]) -> Iterator[tuple[int, float]]:
        training = make_training(job, params, train, valid)
        while not training.finished:
            try:
                record = training.epoch()
            except FloatingPointError:
                return
            yield record["epoch"], record[sweep.metric]

    return run


def tell(*words: object) -> None:
    print(*words, flush=True)


def random(folder: Path, seed: int, worker: int) -> None:
    """Points drawn from the space, each trained to the end."""
    from benchmarks.scale.curves import drawn

    config, _ = subject.configured(folder)
    run, index = trials(folder, NEVER), 0
    tell("begin", time.time())
    while True:
        params = drawn(config.workload.sweep.space, (seed + 1) * 100_000 + 2 * index + worker)
        for _, value in run(params):
            tell(time.time(), index, value)
        index += 1


def halving(folder: Path, seed: int, worker: int, study: str) -> None:
    """Optuna: TPE and SuccessiveHalvingPruner, the study in a journal that both processes share."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    from components.tune.space import distributions

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    config, _ = subject.configured(folder)
    space, run = distributions(config.workload.sweep.space), trials(folder)

    def objective(trial: optuna.Trial) -> float:
        best = 0.0
        for epoch, value in run({name: trial._suggest(name, one) for name, one in space.items()}):
            tell(time.time(), trial.number, value)
            best = max(best, value)
            trial.report(value, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return best

    made = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(study)),
        study_name="target",
        load_if_exists=True,
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=2 * seed + worker),
        pruner=optuna.pruners.SuccessiveHalvingPruner(**PRUNER),
    )
    tell("begin", time.time())
    made.optimize(objective)


if __name__ == "__main__":
    side, where, number, which, shared = sys.argv[1:]
    if side == "random":
        random(Path(where), int(number), int(which))
    else:
        halving(Path(where), int(number), int(which), shared)
