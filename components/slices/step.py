"""All slices of a workload: split, fitted side by side, written as one routing table."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from components.slices.column import check_column
from components.slices.crew import crew
from components.slices.fit import Job, Part, counts
from components.slices.kept import Kept
from components.slices.write import template_of
from components.train.data import read_rows
from components.train.loop import Rows, Training
from seaway.artifacts import content_hash, read_json, record_hash, write_json
from seaway.closure import code_of
from seaway.config import Config, Slices
from seaway.errors import SeawayError
from seaway.features import FeatureSpec
from seaway.progress import say
from seaway.slices import FILE, places, word

SPLITS = ("sweep_train", "valid", "train")  # earlier rows, later rows, all of them
PROGRESS_S = 10.0


def add_slices(
    config: Config,
    spec: FeatureSpec,
    dataset: Path,
    chosen: Mapping[str, Any],
    out: Path,
    address: str | None = None,
    tell: Callable[[str], Any] = say,
) -> dict[str, Any] | None:
    """Add slices/<nnn>/ and slices.json to the bundle ``out``; None where the workload has no slices.

    Slices run on the Ray at ``address``, or where the configuration says (components.slices.crew). Finished ones lie in
    home/slices/<key> until the bundle has them, and a run that was killed goes on there. Raises SeawayError for a
    column that the data set lacks, more values than workload.slices.maximum, or a Ray that is lost.
    """
    wanted = config.workload.slices
    if wanted is None:
        return None
    started = time.perf_counter()
    check_column(config.workload, spec)
    table = Table(config, spec, dataset, wanted.by)
    if len(table.values) > wanted.maximum:
        raise SeawayError(
            f"workload.slices.by {wanted.by!r} has {len(table.values)} values, more than workload.slices.maximum "
            f"{wanted.maximum}: take a coarser column or raise it"
        )
    job = Job(
        config.workload.model,
        str(config.root),
        chosen["params"],
        int(chosen["epochs"]),
        config.workload.sweep.seed,
        config.workload.sweep.metric,
        b"",
        read_json(out / "model.json"),
        wanted.bootstrap,
    )
    names = {value: f"{number:03d}" for number, value in enumerate(table.values)}
    kept = Kept(config.home / "slices" / key_of(config, spec, dataset, job)[:16])
    done = kept.records(names.values())
    found = {value: done[name] for value, name in names.items() if name in done}
    resumed = len(found)
    for value in table.values:
        if value not in found and (reason := table.too_little(value, wanted)):
            found[value] = table.counts(value) | {"kept": False, "reason": reason}
    todo = sorted((v for v in table.values if v not in found), key=lambda v: (-table.counts(v)["rows"], v))
    start, failed, began = 0.0, 0, time.perf_counter()
    if todo:
        with ExitStack() as stack:
            from components.ray.local import Early

            opened = Early(crew(config, len(todo), table.bytes(todo[0]), address, kept.folder))
            stack.callback(opened.close)
            # what this process does alone, while Ray starts and workers import
            job = replace(job, template=template_of(job.untrained(len(spec.names)), len(spec.names)))
            known = known_scores(job, table.splits, config.compute.device)
            with opened as team:
                start, began = team.start_seconds, time.perf_counter()
                said = began
                for value, fitted in team.fitted(job, todo, lambda v: table.part(v, known)):
                    kept.add(names[value], fitted)
                    found[value] = fitted.record
                    failed += fitted.failed
                    if time.perf_counter() - said >= PROGRESS_S:
                        said = time.perf_counter()
                        tell(f"slices: {len(found)}/{len(names)} done, {sum(r['kept'] for r in found.values())} kept")
    routed = {v: r | {"folder": f"slices/{names[v]}"} for v, r in sorted(found.items()) if r["kept"]}
    for value, record in routed.items():
        kept.put(names[value], out / record["folder"])
    left = {v: r for v, r in sorted(found.items()) if not r["kept"]}
    write_json(out / FILE, {"by": wanted.by, "metric": job.metric, "kept": routed, "left": left})
    kept.remove()
    return {
        "by": wanted.by,
        "kept": len(routed),
        "left": len(left),
        "failed": failed,
        "resumed": resumed,
        "start_seconds": round(start, 2),  # of Ray, while other things were done
        "fit_seconds": round(time.perf_counter() - began, 2),  # from then on, to the end
        "seconds": round(time.perf_counter() - started, 2),
    }


class Table:
    """The splits and the rows of each slice in them. ``values``: those of the training rows, in order."""

    def __init__(self, config: Config, spec: FeatureSpec, dataset: Path, by: str) -> None:
        files = {name: dataset / f"{name}.parquet" for name in SPLITS}
        self.splits = {name: read_rows(config, spec, file) for name, file in files.items()}
        self._rows = {name: dict(places(_words(file, by))) for name, file in files.items()}
        self.values = sorted(self._rows["train"])
        self._groups = _groups(config, files["valid"])

    def part(self, value: str, known: np.ndarray) -> Part:
        """A slice's rows; ``known``: the global model's scores of all later rows."""
        here = self._at(value, "valid")
        groups = None if self._groups is None else self._groups[here]
        return Part(*(self._only(value, name) for name in SPLITS), known[here], groups)

    def counts(self, value: str) -> dict[str, int]:
        return counts(self._labels(value, "train"))

    def bytes(self, value: str) -> int:
        """Of a slice's part."""
        one = self.splits["train"].bytes / len(self.splits["train"].labels)
        return int(sum(len(self._at(value, name)) for name in SPLITS) * one)

    def too_little(self, value: str, wanted: Slices) -> str:
        """Why a slice cannot have a model of its own, or ""."""
        if value == "":
            return "rows without a value are the global model's"
        for name, split in (("earlier", "sweep_train"), ("later", "valid")):
            labels = self._labels(value, split)
            if len(labels) == 0 or labels.min() == labels.max():
                return f"its {name} rows ({len(labels)}) are not of both classes"
        found = self.counts(value)
        for what in ("rows", "positives"):
            if found[what] < (least := getattr(wanted, f"minimum_{what}")):
                return f"{found[what]} {what}, fewer than workload.slices.minimum_{what} {least}"
        return ""

    def _at(self, value: str, split: str) -> np.ndarray:
        return self._rows[split].get(value, np.zeros(0, dtype=np.int64))

    def _labels(self, value: str, split: str) -> np.ndarray:
        return self.splits[split].labels[self._at(value, split)]

    def _only(self, value: str, split: str) -> Rows:
        here, rows = self._at(value, split), self.splits[split]
        return Rows(rows.features[here], rows.labels[here])


def known_scores(job: Job, splits: Mapping[str, Rows], device: str) -> np.ndarray:
    """Scores of the later rows by a global model that has learnt from the earlier ones alone."""
    device = "cpu" if device == "cpu" else "auto"  # the head of a RayJob may have no GPU
    reference = Training(
        job.build, job.params, splits["sweep_train"], None, max_epochs=job.epochs, seed=job.seed, device=device
    )
    while not reference.finished:
        reference.epoch()
    return reference.scores(splits["valid"].features)


def _words(file: Path, column: str) -> list[str]:
    """The slice of each row as text."""
    try:
        values = pl.read_parquet(file, columns=[column])[column]
    except pl.exceptions.ColumnNotFoundError:
        raise SeawayError(f"workload.slices.by is {column!r}, which {file} does not have") from None
    if values.dtype.is_temporal() or values.dtype in (pl.Boolean, pl.Binary) or values.dtype.is_nested():
        raise SeawayError(
            f"workload.slices.by is {column!r}, a column of {values.dtype}: take one of numbers or texts, by which a "
            "server can route"
        )
    named = {value: word(value) for value in values.unique().to_list()}
    return [named[value] for value in values.to_list()]


def _groups(config: Config, file: Path) -> np.ndarray | None:
    """The entity of each row by which the evaluation resamples; None where it resamples row by row."""
    key = config.workload.entities.get(config.workload.top_k.get("entity", ""))
    if key is None or key not in pl.read_parquet_schema(file):
        return None
    return np.unique(pl.read_parquet(file, columns=[key])[key].to_numpy(), return_inverse=True)[1]


def key_of(config: Config, spec: FeatureSpec, dataset: Path, job: Job) -> str:
    """Of all that a finished slice rests on. The global model's weights are not in it."""
    inputs = [content_hash(dataset / f"{name}.parquet") for name in SPLITS]
    wanted = config.workload.slices.model_dump(mode="json")
    same = {k: v for k, v in job.record.items() if k not in ("metrics", "onnx_max_difference", "background")}
    how = [dict(job.params), job.epochs, job.seed, job.metric, job.resamples, same, spec.hash, config.workload.top_k]
    return record_hash([inputs, wanted, how, code_of("components.slices.fit", job.model, also=config.root)])
