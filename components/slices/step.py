"""All slices of a workload: split, fitted side by side on Ray, written as one routing table."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from components.slices.fit import Job, Part, fit
from components.train.data import read_rows
from components.train.loop import Rows, Training
from seaway.artifacts import read_json, write_json
from seaway.config import Config
from seaway.errors import SeawayError
from seaway.features import FeatureSpec
from seaway.slices import FILE, word

CHUNKS = 4  # a worker: few enough that a task costs little, enough that none waits long for the last


def add_slices(
    config: Config, spec: FeatureSpec, dataset: Path, chosen: Mapping[str, Any], out: Path
) -> dict[str, Any] | None:
    """Add slices/<nnn>/ and slices.json to the bundle ``out``; None where the workload has no slices.

    Raises SeawayError for a column that the data set lacks, or more values than workload.slices.maximum.
    """
    wanted = config.workload.slices
    if wanted is None:
        return None
    started = time.perf_counter()
    if wanted.by not in (*spec.names, *spec.inputs):
        raise SeawayError(
            f"workload.slices.by is {wanted.by!r}, neither a feature nor an input: a server could not route by it"
        )
    splits = {n: read_rows(config, spec, dataset / f"{n}.parquet") for n in ("sweep_train", "valid", "train")}
    words = {name: _words(dataset / f"{name}.parquet", wanted.by) for name in splits}
    values = sorted(set(words["train"].tolist()))
    if len(values) > wanted.maximum:
        raise SeawayError(
            f"workload.slices.by {wanted.by!r} has {len(values)} values, more than workload.slices.maximum "
            f"{wanted.maximum}: take a coarser column or raise it"
        )
    job = Job(
        config.workload.model,
        str(config.root),
        chosen["params"],
        int(chosen["epochs"]),
        config.workload.sweep.seed,
        config.workload.sweep.metric,
        (out / "model.onnx").read_bytes(),
        read_json(out / "model.json"),
    )
    reference = Training(job.build, job.params, splits["sweep_train"], None, max_epochs=job.epochs, seed=job.seed)
    while not reference.finished:
        reference.epoch()
    known = reference.scores(splits["valid"].features)
    parts, found = {}, {}
    for number, value in enumerate(values):
        here = {n: words[n] == value for n in splits}
        part = Part(*(_only(splits[n], here[n]) for n in splits), known[here["valid"]])
        if reason := _too_little(part, wanted.minimum_rows, wanted.minimum_positives):
            counts = {"rows": len(part.whole.labels), "positives": int(part.whole.labels.sum())}
            found[value] = counts | {"kept": False, "reason": reason}
        else:
            parts[value] = (f"slices/{number:03d}", part)
    found |= fit_all(job, parts, out)
    kept = {v: r | {"folder": parts[v][0]} for v, r in sorted(found.items()) if r["kept"]}
    left = {v: r for v, r in sorted(found.items()) if not r["kept"]}
    write_json(out / FILE, {"by": wanted.by, "metric": job.metric, "kept": kept, "left": left})
    return {"by": wanted.by, "kept": len(kept), "left": len(left), "seconds": round(time.perf_counter() - started, 2)}


def fit_all(
    job: Job, parts: Mapping[str, tuple[str, Part]], out: Path, workers: int | None = None
) -> dict[str, dict[str, Any]]:
    """Fit every part in a Ray of this machine, largest first, some slices a task; records by value."""
    from components.tune.local_ray import local_ray

    if not parts:
        return {}
    workers = min(workers or len(os.sched_getaffinity(0)), len(parts))
    order = sorted(parts, key=lambda v: (-len(parts[v][1].whole.labels), v))
    chunks = [order[i :: workers * CHUNKS] for i in range(workers * CHUNKS)]
    bytes_ = sum(r.features.nbytes + r.labels.nbytes for _, p in parts.values() for r in (p.earlier, p.later, p.whole))
    with local_ray(workers, 0, 2 * bytes_ + (64 << 20)) as ray:
        run = ray.remote(num_cpus=1, max_retries=2)(_chunk)
        shared = ray.put(job)
        waits = [run.remote(shared, {v: parts[v] for v in chunk}, str(out)) for chunk in chunks if chunk]
        return {value: record for records in ray.get(waits) for value, record in records.items()}


def _chunk(job: Job, parts: Mapping[str, tuple[str, Part]], out: str) -> dict[str, dict[str, Any]]:
    import torch

    torch.set_num_threads(1)
    return {value: fit(job, value, part, Path(out) / folder) for value, (folder, part) in parts.items()}


def _words(file: Path, column: str) -> np.ndarray:
    """The slice of each row as text, (n,) objects."""
    try:
        values = pl.read_parquet(file, columns=[column])[column]
    except pl.exceptions.ColumnNotFoundError:
        raise SeawayError(f"workload.slices.by is {column!r}, which {file} does not have") from None
    named = {value: word(value) for value in values.unique().to_list()}
    return np.array([named[value] for value in values.to_list()], dtype=object)


def _only(rows: Rows, mask: np.ndarray) -> Rows:
    return Rows(np.ascontiguousarray(rows.features[mask]), rows.labels[mask])


def _too_little(part: Part, rows: int, positives: int) -> str:
    """Why a slice cannot have a model of its own, or ""."""
    for name, some in (("earlier", part.earlier), ("later", part.later)):
        if len(some.labels) == 0 or some.labels.min() == some.labels.max():
            return f"its {name} rows ({len(some.labels)}) are not of both classes"
    if len(part.whole.labels) < rows:
        return f"{len(part.whole.labels)} rows, fewer than workload.slices.minimum_rows {rows}"
    if part.whole.labels.sum() < positives:
        return f"{int(part.whole.labels.sum())} positives, fewer than workload.slices.minimum_positives {positives}"
    return ""
