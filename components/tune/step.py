"""The sweep: Ray Tune on a local Ray, Optuna's sampler, successive halving, resumable after a kill."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seaway import alive
from seaway.artifacts import content_hash, record_hash, write_json
from seaway.config import Config
from seaway.errors import SeawayError
from seaway.features import FeatureSpec
from seaway.hooks import resolve

if TYPE_CHECKING:
    from components.ray.place import Place
    from components.tune.sweep import Hooks, Outcome

NOT_OF_THE_KEY = {"trials", "retries", "stop", "warm_start"}  # they may change and the sweep goes on


class Stopped(SeawayError):
    """A person, or whoever runs this process, wanted an end."""


def tune(config: Config, spec: FeatureSpec, dataset: Path, out: Path, resume: bool = True) -> dict[str, Any]:
    """Search ``config.workload.sweep.space``; trials learn on sweep_train and are measured on valid.

    Writes out/best.json (params, metric, value, trial, epochs, threshold, threshold_f1) and
    out/trials.parquet (a row per trial and epoch). The threshold is the one with the best F1 of the best
    trial's scores on valid, which that model has not learnt from. State is kept in home/sweeps/<key>,
    the key being data, space and code: with ``resume`` what is there is kept, whatever the number of
    trials. Raises SeawayError when every trial failed or another process runs the same sweep.

    Where config.ray says so, a RayJob does it and this follows it; the state is then in object storage.
    Else a process of its own does: Ray ends the process that uses it when it loses Ray, and this one
    begins another.
    """
    from components.tune.warm import remember

    if config.ray.substrate == "kuberay":
        from components.tune.cluster import sweep

        summary = sweep(config, spec, dataset, out, resume)
    else:
        from components.tune.keeper import keep_going

        summary = keep_going(config, dataset, out, resume)
    remember(config, spec, out, summary)
    return summary


def search(
    config: Config,
    spec: FeatureSpec,
    dataset: Path,
    out: Path,
    resume: bool = True,
    place: Place | None = None,
    hooks: Hooks | None = None,
    warm: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """As ``tune``, from this process: on a Ray of its own, at ``ray.address``, or at ``place``.

    ``warm``: points to begin with, where somebody else has looked them up. Records nothing in the tracking store.
    """
    from components.ray.address import at_address, check_nodes, first_slots
    from components.ray.local import Early, local_ray, prepare
    from components.ray.needs import Needs, gpus_here, here, slots_here
    from components.ray.place import bring, check_writable, keeping
    from components.train.data import read_rows
    from components.tune.order import deciding
    from components.tune.order import trials as number_of_trials

    started, sweep = time.perf_counter(), config.workload.sweep
    elsewhere = place is None and config.ray.substrate == "address"
    prepare(own=place is None and not elsewhere)
    train, valid = (
        read_rows(config, spec, dataset / "sweep_train.parquet"),
        read_rows(config, spec, dataset / "valid.parquet"),
    )
    with ExitStack() as stack:
        if elsewhere:
            place = stack.enter_context(at_address(config))
        gpus = 0 if place else gpus_here(config)
        slots = min(place.slots if place else slots_here(config, gpus), number_of_trials(sweep))
        key = sweep_key(config, spec, dataset, 0 if elsewhere else slots)
        folder = config.home / "sweeps" / key
        if place and place.store and not place.checkpoints:
            place = replace(place, checkpoints=place.store.join("sweeps", key, "checkpoints"))
        remote = place.remote if place else None
        check_writable(folder, remote)
        stack.enter_context(_alone(folder, fresh=not resume))
        if place:
            ray = place.open()
        else:
            memory = int(1.3 * (train.bytes + valid.bytes))
            ray = Early(local_ray(here(config)[0], gpus, memory, hooks.lost if hooks else None))
            stack.callback(ray.close)
        # of these some take seconds to import, as Ray takes to start
        from components.tune.results import unfailed, write_trials
        from components.tune.space import distributions, example, weight_shapes
        from components.tune.sweep import Hooks, run_trials
        from components.tune.trial import checkpoint_file, make_training
        from components.tune.warm import first_points, look_up
        from seaway.metrics import best_threshold

        hooks, space = hooks or Hooks(), distributions(sweep.space)
        hooks.on_begun()
        job = {
            "folder": str(folder.absolute()),
            "model": config.workload.model,
            "root": str(config.root),
            "metric": sweep.metric,
            "max_epochs": sweep.max_epochs,
            "patience": sweep.patience,
            "seed": sweep.seed,
            "device": config.compute.device,
            "threads": Needs.of(sweep.resources).threads,
            "remote": remote,
        }
        local = {**job, "device": "cpu"} if place else job  # trials run elsewhere: this machine may have no GPU
        # a parameter that no trial can be built with is a mistake of the configuration: say so before any begins
        device = make_training(local, example(space), train, valid).device
        order = slots
        if elsewhere:
            check_nodes(config, folder, shared=place.store is None)
            order = first_slots(folder, remote, place.slots)
        shapes = weight_shapes(resolve(config.workload.model, config.root).build, train.features.shape[1])
        first = first_points(folder, remote, lambda: look_up(config, spec, key) if warm is None else warm)
        rules = deciding(sweep, order, space, shapes)
        outcome = run_trials(config, job, space, slots, device, train, valid, rules, ray, place, hooks, first)
        trials = outcome.trials
        for at in (folder, out):  # of a sweep that came to grief too, where there is room
            with suppress(OSError):
                write_trials(trials, sweep.metric, at / "trials.parquet")
        _check(outcome, hooks, folder)
        best = max(
            (t for t in trials if t["status"] != "failed" and t["epochs"]),
            key=lambda t: (t["objective"], -t["index"]),
            default=None,
        )
        if best is None:
            unfailed(folder, remote, trials)
            raise SeawayError(
                f"all {len(trials)} trials failed; the first said: {trials[0]['error'] if trials else ''}"
            )
        training = make_training(local, best["params"], train, valid)
        file = checkpoint_file(folder, best["index"], best["params"])
        bring(remote, file)
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
        "ended": outcome.ended,  # why before its last trial; "" otherwise
    }
    with keeping("the sweep's result", out):
        write_trials(trials, sweep.metric, out / "trials.parquet")
        write_json(out / "best.json", record)
    kept = sum(e["replayed"] for t in trials for e in t["epochs"])
    return {
        **record,
        "key": key,
        "trials": len(trials),
        "stopped": sum(t["status"] == "stopped early" for t in trials),
        "failed": sum(t["status"] == "failed" for t in trials),
        "epochs_trained": sum(len(t["epochs"]) for t in trials) - kept,
        "epochs_kept": kept,
        "cpu_seconds": round(sum(t["cpu_seconds"] for t in trials), 2),
        "gpu_seconds": round(sum(t["gpu_seconds"] for t in trials), 2),
        "slots": slots,
        "rows": len(train.labels),
        "device": "cuda" if place and place.gpu else device,
        "seconds": round(time.perf_counter() - started, 2),
    }


def _check(outcome: Outcome, hooks: Hooks, folder: Path) -> None:
    """Raises SeawayError for a sweep that could not go on, or that somebody wanted to end."""
    over = sum(t["status"] in ("finished", "stopped early") for t in outcome.trials)
    kept = f"{over} trials that have ended and the epochs of the others are kept in {folder}"
    if outcome.fault:
        raise SeawayError(f"{outcome.fault}. The sweep has stopped; {kept}. Mend it, and the same command goes on")
    if hooks.stopped.is_set():
        raise Stopped(f"the sweep has stopped; {kept}. The same command goes on")


def sweep_key(config: Config, spec: FeatureSpec, dataset: Path, cpus: int) -> str:
    """What makes two sweeps the same: rows, features, search space, model and training code."""
    from components.train import device, loop, rows, state

    module = resolve(config.workload.model, config.root)
    sweep = config.workload.sweep.model_dump(mode="json", exclude=NOT_OF_THE_KEY)
    parts = {
        "rows": [content_hash(dataset / f"{name}.parquet") for name in ("sweep_train", "valid")],
        "features": [spec.names, config.workload.label.column],
        "sweep": sweep,
        "code": [content_hash(Path(code.__file__)) for code in (module, loop, rows, device, state)],
        "compute": [config.compute.device, cpus],
    }
    return record_hash(parts)[:16]


@contextmanager
def _alone(folder: Path, fresh: bool) -> Iterator[None]:
    """Hold the sweep's lock, which the kernel frees when this process ends, however it ends."""
    busy = f"another process is running this sweep ({folder}); wait for it or stop it"
    with alive.hold(folder / ".lock", busy):
        for file in folder.glob(".*.safetensors"):  # what a killed process was writing
            file.unlink(missing_ok=True)
        if fresh:
            for file in (*folder.glob("*.safetensors"), *folder.glob("*.json"), *folder.glob("*.parquet")):
                file.unlink()
        yield
