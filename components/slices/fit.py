"""One slice: a model of its own rows, judged on later rows against the global model, then fitted to all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.slices.write import write_onnx
from components.train.export import BACKGROUND_ROWS
from components.train.loop import Rows, Training, better
from seaway.artifacts import write_json
from seaway.attribution import contributions
from seaway.features import FeatureSpec
from seaway.hooks import resolve
from seaway.metrics import NAMED, best_threshold

EXPLAINED = 50  # rows whose contributions give a slice's mean


@dataclass(frozen=True)
class Job:
    """What every slice needs. ``record``: the global model.json, whose features and words a slice takes over."""

    model: str  # workload.model and the folder that it is imported from: a worker imports it for itself
    root: str
    params: Mapping[str, Any]
    epochs: int
    seed: int
    metric: str
    template: bytes
    record: Mapping[str, Any]

    @property
    def build(self) -> Any:
        return resolve(self.model, Path(self.root)).build


@dataclass(frozen=True)
class Part:
    """A slice's rows; ``scores``: the global model's on ``later``, by one that has not seen them."""

    earlier: Rows
    later: Rows
    whole: Rows
    scores: np.ndarray


def fit(job: Job, value: str, part: Part, out: Path) -> dict[str, Any]:
    """Fit and judge one slice; {"kept": bool, "reason", rows, positives, metric values, …}. Never raises.

    Chosen honestly: a model of ``earlier`` is compared with the global one on ``later``, which neither has seen;
    it is kept when it is better there. What is written to ``out`` is then fitted to ``whole``.
    """
    counts = {"rows": len(part.whole.labels), "positives": int(part.whole.labels.sum())}
    try:
        return counts | _fit(job, part, out)
    except Exception as error:  # one slice's fault is no other's
        return counts | {"kept": False, "reason": f"its fit failed: {type(error).__name__}: {str(error)[:200]}"}


def _fit(job: Job, part: Part, out: Path) -> dict[str, Any]:
    tried = _trained(job, part.earlier).scores(part.later.features)
    measure = NAMED[job.metric]
    own, theirs = (float(measure(s, part.later.labels)) for s in (tried, part.scores))
    record: dict[str, Any] = {"own": own, "global": theirs}
    if not better(job.metric, own, theirs):
        said = f"{job.metric} on later rows is {own:.4f}, the global model's {theirs:.4f}"
        return record | {"kept": False, "reason": said}
    threshold = float(best_threshold(tried, part.later.labels)[0])
    training, features = _trained(job, part.whole), part.whole.features
    out.mkdir(parents=True, exist_ok=True)
    difference, anew = write_onnx(out / "model.onnx", job.template, training.model, features)
    draw = np.random.default_rng(job.seed)
    chosen = np.sort(draw.choice(len(features), min(BACKGROUND_ROWS, len(features)), replace=False))
    background = features[chosen]
    sample = features[draw.choice(len(features), min(EXPLAINED, len(features)), replace=False)]
    phi = np.mean([np.abs(contributions(training.scores, row, background)) for row in sample], axis=0)
    names = FeatureSpec.from_record(job.record["features"]).names
    write_json(
        out / "model.json",
        {
            **{k: job.record[k] for k in ("workload", "kind", "params", "features", "feature_hash", "reasons")},
            "threshold": threshold,
            "background": [[float(v) for v in row] for row in background],
            "mean_abs": dict(zip(names, phi.tolist(), strict=True)),
            "metrics": {},
            "onnx_max_difference": difference,
        },
    )
    return record | {"kept": True, "reason": "", "threshold": threshold, "exported": anew}


def _trained(job: Job, rows: Rows) -> Training:
    training = Training(
        job.build, job.params, rows, None, max_epochs=job.epochs, metric=job.metric, seed=job.seed, device="cpu"
    )
    while not training.finished:
        training.epoch()
    return training
