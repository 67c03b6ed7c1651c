"""The training pipeline up to the sweep, in this process: what ``seaway tune`` runs."""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.base import perform
from pipelines.progress import EventStream, OnEvent
from pipelines.record import Record
from seaway import alive, progress
from seaway.artifacts import read_json
from seaway.config import Config
from seaway.hooks import resolve

BEFORE = (("ingest", None), ("validate", "raw"), ("features", "valid"), ("dataset", "features"))


def run_sweep(config: Config, *, resume: bool, on_event: OnEvent, more: dict[str, Any] | None = None) -> dict[str, Any]:
    """Bring the data set up to date, then sweep; returns best.json's record, with what it cost as ``usd``.

    With ``resume`` a sweep of the same data, space and code goes on from what is there; without, it
    starts afresh. What is known of it, and ``more``, is in home/runs/<run>/sweep.json. Raises SeawayError when a
    step fails or another run uses the same home.
    """
    folder = config.home / "runs" / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-tune"
    with alive.hold(config.home / "run.lock"):
        folder.mkdir(parents=True)
        record = Record(folder.name, folder / "sweep.json", config, more)

        def listen(event: dict[str, Any]) -> None:
            record.take(event)
            on_event(event)

        try:
            with (folder / "log").open("w") as log, contextlib.redirect_stdout(EventStream(log, listen)):
                made = None
                for name, takes in BEFORE:
                    made = _step(name, config, {takes: made} if takes else {}, folder)
                best = _step("tune", config, {"dataset": made}, folder) if resume else _afresh(config, made, folder)
        except BaseException as error:
            record.end("failed" if isinstance(error, Exception) else "interrupted")
            raise
        usd = record.end("passed")["usd"]
    return read_json(best / "best.json") | {"usd": usd}


def _afresh(config: Config, dataset: Path, folder: Path) -> Path:
    """The sweep without what is kept of it, and without the step's stored result."""
    from components.tune.step import tune

    out, reason, began = folder / "tune" / "out", "asked to start afresh", time.monotonic()
    out.mkdir(parents=True)
    with progress.of_step("tune"):
        progress.emit("reason", reason=reason, skipped=False)
        spec = resolve(config.workload.features, config.root)
        summary = tune(config, spec, dataset, out, resume=False)
        seconds = round(time.monotonic() - began, 3)
        progress.emit("end", status="done", reason=reason, summary=summary, seconds=seconds)
    return out


def _step(name: str, config: Config, inputs: dict[str, Any], folder: Path) -> Path:
    outputs = {"out": folder / name / "out"}
    if name == "validate":
        outputs["quarantine"] = folder / name / "quarantine"
    with progress.of_step(name):
        result = perform(name, config, inputs, outputs)
        progress.emit("end", **result)
    return outputs["out"]
