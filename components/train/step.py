"""The final training: the sweep's best parameters on the newest rows, exported and checked.

Nothing is chosen here. Parameters, number of epochs and threshold come from the sweep, where a model
that learnt on sweep_train was measured on valid, rows that it had not seen and that lie after it. valid
is part of train, so measuring on it again would only measure memory; the test split alone judges the
model, in the evaluation.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seaway.artifacts import content_hash, read_json, record_hash
from seaway.config import Config
from seaway.errors import SeawayError
from seaway.features import FeatureSpec
from seaway.hooks import resolve
from seaway.progress import say

PROGRESS_SECONDS = 10.0
KEEP_SECONDS = 10.0  # of work that is done again at most, on another machine


def train(config: Config, spec: FeatureSpec, dataset: Path, best: Path, out: Path) -> dict[str, Any]:
    """As ``train_here``; with several workers and ray.substrate kuberay, by a RayJob."""
    if config.training.workers > 1 and config.ray.substrate == "kuberay":
        from components.train.cluster import by_job

        return by_job(config, spec, dataset, best, out)
    return train_here(config, spec, dataset, best, out)


def train_here(
    config: Config,
    spec: FeatureSpec,
    dataset: Path,
    best: Path,
    out: Path,
    address: str | None = None,
    tell: Callable[[str], Any] = say,
) -> dict[str, Any]:
    """Train on train.parquet with ``best``/best.json; write a bundle to ``out``, the baseline's to out/baseline.

    A killed training goes on from its last epoch (home/training/<key>, <storage>/training/<key>). With
    training.workers above 1 they train together, see components.train.distributed; ``address`` is then of the Ray they
    run on. ``tell`` gets lines of progress. Raises SeawayError when best.json is missing or incomplete, or the
    exported model does not score as torch does.
    """
    import torch

    from components.slices.step import add_slices
    from components.train.baseline import fit_baseline
    from components.train.data import read_rows
    from components.train.export import write_bundle
    from components.train.kept import fetch, forget, remote_of
    from components.train.loop import Training
    from seaway.metrics import best_threshold, measure

    started = time.perf_counter()
    torch.set_num_threads(1)  # small layers gain little from more, and the result does not depend on the machine
    chosen = _chosen(best)
    rows = read_rows(config, spec, dataset / "train.parquet")
    seed, workers = config.workload.sweep.seed, config.training.workers
    key = record_hash([content_hash(dataset / "train.parquet"), chosen["params"], chosen["epochs"], seed, spec.hash])
    checkpoint = config.home / "training" / f"{key[:16]}.safetensors"
    together, remote = None, remote_of(config, checkpoint)
    if workers > 1:
        from components.train.distributed import train_together

        together = train_together(config, chosen["params"], rows, int(chosen["epochs"]), checkpoint, address, tell)
    training = Training(
        resolve(config.workload.model, config.root).build,
        chosen["params"],
        rows,
        None,
        max_epochs=int(chosen["epochs"]),
        seed=seed,
        device="cpu" if together else config.compute.device,
    )
    if not together:
        fetch(remote, checkpoint)
    resumed = training.load(checkpoint) and len(training.history)
    if together:
        if not training.finished:
            raise SeawayError(
                f"the workers' state is not in {checkpoint}: set storage.uri, or a `home` that they share"
            )
        resumed = together["resumed"]
    _run(training, checkpoint, remote, tell)
    scores = training.scores(rows.features)
    shared = {"workload": config.workload.name, "seed": seed}
    # on the rows it learnt from: of use only to compare with the test split
    metrics = {f"train_{k}": float(v) for k, v in measure(scores, rows.labels, chosen["threshold"]).items()}
    difference = write_bundle(
        out,
        training.model,
        spec,
        rows.features,
        kind="torch",
        params={**chosen["params"], "epochs": chosen["epochs"]},
        threshold=chosen["threshold"],
        metrics=metrics,
        **shared,
    )
    earlier = read_rows(config, spec, dataset / "sweep_train.parquet")
    later = read_rows(config, spec, dataset / "valid.parquet")
    threshold, _ = best_threshold(_scores(fit_baseline(earlier), later.features), later.labels)
    write_bundle(
        out / "baseline",
        fit_baseline(rows),
        spec,
        rows.features,
        kind="logistic regression",
        params={},
        threshold=threshold,
        metrics={},
        **shared,
    )
    slices = add_slices(config, spec, dataset, chosen, out, address, tell)
    forget(remote, checkpoint)
    return {
        "rows": len(rows.labels),
        "positives": int(rows.labels.sum()),
        "params": chosen["params"],
        "epochs": len(training.history),
        "resumed_at_epoch": int(resumed) or None,
        "loss": training.history[-1]["loss"],
        "threshold": chosen["threshold"],
        **({"slices": slices} if slices else {}),
        "device": together["device"] if together else training.device,
        **({"workers": workers} if together else {}),
        "onnx_max_difference": difference,
        "seconds": round(time.perf_counter() - started, 2),
    }


def _chosen(best: Path) -> dict[str, Any]:
    file = best / "best.json"
    if not file.exists():
        raise SeawayError(f"{file} does not exist: run the tune step first")
    record = read_json(file)
    missing = [name for name in ("params", "epochs", "threshold") if name not in record]
    if missing:
        raise SeawayError(f"{file} has no {', '.join(missing)}: it is not the tune step's record")
    return record


def _run(training: Any, checkpoint: Path, remote: Any, tell: Callable[[str], Any]) -> None:
    """Train what is left, with a checkpoint after each epoch, and now and then one elsewhere and a line of progress."""
    from components.ray.place import keep

    said = kept = time.perf_counter()
    while not training.finished:
        record = training.epoch()
        training.save(checkpoint)
        if time.perf_counter() - kept >= KEEP_SECONDS:
            keep(remote, checkpoint, last=False)
            kept = time.perf_counter()
        if time.perf_counter() - said >= PROGRESS_SECONDS:
            said = time.perf_counter()
            tell(f"train: epoch {record['epoch']}/{training.max_epochs}, loss {record['loss']:.4f}")


def _scores(model: Any, features: Any) -> Any:
    import torch

    with torch.inference_mode():
        return torch.sigmoid(model(torch.from_numpy(features))).numpy()
