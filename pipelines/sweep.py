"""The training pipeline up to the sweep, in this process: what ``seaway tune`` runs."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any

from components.base import perform
from pipelines.progress import EventStream, OnEvent
from seaway import alive, progress
from seaway.artifacts import read_json
from seaway.config import Config
from seaway.hooks import resolve

BEFORE = (("ingest", None), ("validate", "raw"), ("features", "valid"), ("dataset", "features"))


def run_sweep(config: Config, *, resume: bool, on_event: OnEvent) -> dict[str, Any]:
    """Bring the data set up to date, then sweep; returns best.json's record.

    With ``resume`` a sweep of the same data, space and code goes on from what is there; without, it
    starts afresh. Raises SeawayError when a step fails or another run uses the same home.
    """
    from components.tune.step import tune

    folder = config.home / "runs" / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-tune"
    with alive.hold(config.home / "run.lock"):
        folder.mkdir(parents=True)
        with (folder / "log").open("w") as log, contextlib.redirect_stdout(EventStream(log, on_event)):
            made = None
            for name, takes in BEFORE:
                made = _step(name, config, {takes: made} if takes else {}, folder)
            if resume:
                best = _step("tune", config, {"dataset": made}, folder)
            else:
                best = folder / "tune" / "out"
                best.mkdir(parents=True)
                tune(config, resolve(config.workload.features, config.root), made, best, resume=False)
    return read_json(best / "best.json")


def _step(name: str, config: Config, inputs: dict[str, Any], folder) -> Any:
    outputs = {"out": folder / name / "out"}
    if name == "validate":
        outputs["quarantine"] = folder / name / "quarantine"
    with progress.of_step(name):
        result = perform(name, config, inputs, outputs)
        progress.emit("end", **result)
    return outputs["out"]
