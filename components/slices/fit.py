"""One slice: a model of its own rows, judged on later rows against the global model, then fitted to all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from components.slices.judge import judge, resamples
from components.slices.write import as_onnx
from components.train.export import BACKGROUND_ROWS
from components.train.loop import Rows, Training
from seaway.attribution import contributions
from seaway.features import FeatureSpec
from seaway.hooks import resolve
from seaway.metrics import best_threshold

EXPLAINED = 50  # rows whose contributions give a slice's mean


@dataclass(frozen=True)
class Job:
    """What every slice needs. ``record``: the global model.json, whose features and words a slice takes over.

    ``template``: see components.slices.write; b"" where there is none yet.
    """

    model: str  # workload.model and the folder that it is imported from: a worker imports it for itself
    root: str
    params: Mapping[str, Any]
    epochs: int
    seed: int
    metric: str
    template: bytes
    record: Mapping[str, Any]
    resamples: int  # of the comparison with the global model

    @property
    def build(self) -> Any:
        return resolve(self.model, Path(self.root)).build

    def untrained(self, features: int) -> Any:
        """A model of the shape that all slices' have."""
        return self.build(self.params, np.zeros(features, dtype=np.float32), np.ones(features, dtype=np.float32))


@dataclass(frozen=True)
class Part:
    """A slice's rows; ``scores``: the global model's on ``later``, by one that has not seen them.

    ``groups``: the entity of each later row, by which they are resampled; None: row by row.
    """

    earlier: Rows
    later: Rows
    whole: Rows
    scores: np.ndarray
    groups: np.ndarray | None = None


@dataclass(frozen=True)
class Fitted:
    """``record``: kept or not and why, rows, positives, what the comparison said. The files of a model that is kept.

    ``failed``: nothing was compared, and another try may end otherwise.
    """

    record: dict[str, Any]
    onnx: bytes = b""
    model: dict[str, Any] = field(default_factory=dict)  # model.json
    failed: bool = False


def warm() -> None:
    """Import what a fit needs, which takes a worker seconds."""
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
    import torch

    torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], fused=True)  # brings torch's compiler


def counts(labels: np.ndarray) -> dict[str, int]:
    return {"rows": len(labels), "positives": int(labels.sum())}


def failure(labels: np.ndarray, why: str) -> Fitted:
    """A slice that falls back because it could not be fitted."""
    return Fitted(counts(labels) | {"kept": False, "reason": f"its fit failed: {why}"}, failed=True)


def fit(job: Job, part: Part) -> Fitted:
    """Fit and judge one slice, on one thread. Never raises.

    Chosen honestly: a model of ``earlier`` is compared with the global one on ``later``, which neither has seen;
    it is kept when it is better there. What is kept is then fitted to ``whole``.
    """
    import torch

    torch.set_num_threads(1)
    try:
        return _fit(job, part)
    except Exception as error:  # one slice's fault is no other's
        return failure(part.whole.labels, f"{type(error).__name__}: {str(error)[:200]}")


def _fit(job: Job, part: Part) -> Fitted:
    labels = part.later.labels
    tried = _scores(_trained(job, part.earlier), part.later.features)
    bootstrap = resamples(len(labels), job.resamples, job.seed, part.groups)
    record = counts(part.whole.labels) | judge(job.metric, tried, part.scores, labels, bootstrap)
    if not record["kept"]:
        return Fitted(record)
    threshold = float(best_threshold(tried, labels)[0])
    training, features = _trained(job, part.whole), part.whole.features
    _scores(training, features)
    data, difference, anew = as_onnx(job.template, training.model, features)
    draw = np.random.default_rng(job.seed)
    chosen = np.sort(draw.choice(len(features), min(BACKGROUND_ROWS, len(features)), replace=False))
    background = features[chosen]
    sample = features[draw.choice(len(features), min(EXPLAINED, len(features)), replace=False)]
    phi = np.mean([np.abs(contributions(training.scores, row, background)) for row in sample], axis=0)
    names = FeatureSpec.from_record(job.record["features"]).names
    model = {
        **{k: job.record[k] for k in ("workload", "kind", "params", "features", "feature_hash", "reasons")},
        "threshold": threshold,
        "background": [[float(v) for v in row] for row in background],
        "mean_abs": dict(zip(names, phi.tolist(), strict=True)),
        "metrics": {},
        "onnx_max_difference": difference,
    }
    return Fitted(record | {"threshold": threshold, "exported": anew}, data, model)


def _trained(job: Job, rows: Rows) -> Training:
    training = Training(
        job.build, job.params, rows, None, max_epochs=job.epochs, metric=job.metric, seed=job.seed, device="cpu"
    )
    while not training.finished:
        training.epoch()
    return training


def _scores(training: Training, features: np.ndarray) -> np.ndarray:
    scores = training.scores(features)
    if not np.isfinite(scores).all():
        raise FloatingPointError("its scores are not finite numbers")
    return scores
