"""The sweep: Ray Tune on a local Ray, Optuna's sampler, successive halving, resumable after a kill."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seaway import alive
from seaway.artifacts import atomic_write, content_hash, record_hash, write_json
from seaway.config import Config
from seaway.errors import SeawayError
from seaway.features import FeatureSpec
from seaway.hooks import resolve

if TYPE_CHECKING:
    from components.tune.place import Place

PATIENCE = 5  # epochs without a better one, then a trial ends


def tune(config: Config, spec: FeatureSpec, dataset: Path, out: Path, resume: bool = True) -> dict[str, Any]:
    """Search ``config.workload.sweep.space``; trials learn on sweep_train and are measured on valid.

    Writes out/best.json (params, metric, value, trial, epochs, threshold, threshold_f1) and
    out/trials.parquet (a row per trial and epoch). The threshold is the one with the best F1 of the best
    trial's scores on valid, which that model has not learnt from. State is kept in home/sweeps/<key>,
    the key being data, space and code: with ``resume`` what is there is kept, whatever the number of
    trials. Raises SeawayError when every trial failed or another process runs the same sweep.

    Where config.ray says so, a RayJob does it and this follows it; the state is then in object storage.
    """
    if config.ray.substrate == "kuberay":
        from components.tune.cluster import sweep

        return sweep(config, spec, dataset, out, resume)
    return search(config, spec, dataset, out, resume)


def search(
    config: Config, spec: FeatureSpec, dataset: Path, out: Path, resume: bool = True, place: Place | None = None
) -> dict[str, Any]:
    """As ``tune``, from this process: on a Ray of its own, or at ``place``."""
    from components.train.data import read_rows
    from components.tune.local_ray import prepare

    prepare(own=place is None)
    from components.tune.place import bring
    from components.tune.space import distributions, example
    from components.tune.sweep import run_trials
    from components.tune.trial import checkpoint_file, make_training
    from seaway.metrics import best_threshold

    started, sweep = time.perf_counter(), config.workload.sweep
    space = distributions(sweep.space)
    cpus = min(place.slots if place else config.compute.cpus or len(os.sched_getaffinity(0)), sweep.trials)
    train, valid = (
        read_rows(config, spec, dataset / "sweep_train.parquet"),
        read_rows(config, spec, dataset / "valid.parquet"),
    )
    key = sweep_key(config, spec, dataset, cpus)
    folder = config.home / "sweeps" / key
    job = {
        "folder": str(folder),
        "model": config.workload.model,
        "root": str(config.root),
        "metric": sweep.metric,
        "max_epochs": sweep.max_epochs,
        "patience": PATIENCE,
        "seed": sweep.seed,
        "device": config.compute.device,
        "remote": place.remote if place else None,
    }
    here = {**job, "device": "cpu"} if place else job  # trials run elsewhere: this machine may have no GPU
    # a parameter that no trial can be built with is a mistake of the configuration: say so before Ray starts
    device = make_training(here, example(space), train, valid).device
    with _alone(folder, fresh=not resume):
        trials = run_trials(config, job, space, cpus, device, train, valid, place)
        best = max(
            (t for t in trials if t["status"] != "failed"), key=lambda t: (t["objective"], -t["index"]), default=None
        )
        if best is None:
            raise SeawayError(
                f"all {len(trials)} trials failed; the first said: {trials[0]['error'] if trials else ''}"
            )
        training = make_training(here, best["params"], train, valid)
        file = checkpoint_file(folder, best["index"], best["params"])
        bring(job["remote"], file)
        if not training.load(file):
            raise SeawayError(f"the best trial's checkpoint {file.name} is gone; run the sweep again")
    training.keep_best()
    threshold, f1 = best_threshold(training.scores(valid.features), valid.labels)
    record = {
        "params": best["params"],
        "metric": sweep.metric,
        "value": training.best[sweep.metric],
        "trial": best["index"],
        "epochs": training.best["epoch"],
        "threshold": threshold,
        "threshold_f1": f1,
    }
    _write_trials(trials, sweep.metric, out / "trials.parquet")
    write_json(out / "best.json", record)
    kept = sum(e["replayed"] for t in trials for e in t["epochs"])
    return {
        **record,
        "trials": len(trials),
        "stopped": sum(t["status"] == "stopped early" for t in trials),
        "failed": sum(t["status"] == "failed" for t in trials),
        "epochs_trained": sum(len(t["epochs"]) for t in trials) - kept,
        "epochs_kept": kept,
        "rows": len(train.labels),
        "device": "cuda" if place and place.gpu else device,
        "seconds": round(time.perf_counter() - started, 2),
    }


def sweep_key(config: Config, spec: FeatureSpec, dataset: Path, cpus: int) -> str:
    """What makes two sweeps the same: rows, features, search space, model and training code."""
    from components.train import loop

    module = resolve(config.workload.model, config.root)
    sweep = config.workload.sweep.model_dump(mode="json", exclude={"trials"})
    parts = {
        "rows": [content_hash(dataset / f"{name}.parquet") for name in ("sweep_train", "valid")],
        "features": [spec.names, config.workload.label.column],
        "sweep": sweep,
        "code": [content_hash(Path(file)) for file in (module.__file__, loop.__file__)],
        "compute": [config.compute.device, cpus],
    }
    return record_hash(parts)[:16]


@contextmanager
def _alone(folder: Path, fresh: bool) -> Iterator[None]:
    """Hold the sweep's lock, which the kernel frees when this process ends, however it ends."""
    busy = f"another process is running this sweep ({folder}); wait for it or stop it"
    with alive.hold(folder / ".lock", busy):
        if fresh:
            for file in folder.glob("*.safetensors"):
                file.unlink()
        yield


def _write_trials(trials: list[dict[str, Any]], metric: str, file: Path) -> None:
    """A row per trial and epoch; ``seconds`` counts from the trial's start."""
    import polars as pl

    rows = [
        {
            "trial": t["index"],
            **{k: e[k] for k in ("epoch", "loss", metric, "seconds")},
            **t["params"],
            "status": t["status"],
        }
        for t in trials
        for e in t["epochs"]
    ]
    with atomic_write(file) as temporary:
        pl.DataFrame(rows, infer_schema_length=None).write_parquet(temporary)
