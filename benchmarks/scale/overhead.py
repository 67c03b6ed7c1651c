"""What a sweep costs beside its trials: ``python -m benchmarks.scale.overhead``.

64 trials of the demo's own sweep, two at a time. The bar: its wall time, from the call to the result, against the
trials' own compute time (training and measuring, as each trial times it) divided by the slots. All else is overhead:
Ray's start and end, the trials' processes, reading, writing states, and slots that wait for a decision.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import polars as pl

from benchmarks.scale import subject
from benchmarks.scale.bars import Result, main

TRIALS, SLOTS, BAR = 64, 2, 1.15


def run() -> list[Result]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset = subject.made(folder)
        wall, compute, first, epochs = measured(folder, dataset, TRIALS)
    idle = wall - first - compute / SLOTS
    detail = (
        f"{wall:.1f} s for {epochs} epochs of {compute:.1f} s in {SLOTS} slots; "
        f"{first:.1f} s until the first trial, {idle:.1f} s a slot between and after"
    )
    return [Result("sweep / compute by slots, 64 trials", wall / (compute / SLOTS), BAR, detail)]


def measured(folder: Path, dataset: Path, trials: int) -> tuple[float, float, float, int]:
    """Wall time, the trials' compute, time until the first trial began; seconds. And the epochs that were trained."""
    from components.tune.step import tune
    from seaway.config import load
    from seaway.hooks import resolve

    overrides = {
        "home": str(folder / "home"),
        "compute": {"device": "cpu", "cpus": SLOTS},
        "workload": {"sweep": {"trials": trials, "warm_start": 0}},
    }
    config = load(overrides=overrides)
    out = folder / "out"
    out.mkdir()
    began, clock = time.time(), time.perf_counter()
    summary = tune(config, resolve(config.workload.features, config.root), dataset, out)
    wall = time.perf_counter() - clock
    ended = pl.read_parquet(out / "trials.parquet").group_by("trial").agg(pl.col("seconds").max())
    assert ended.height == trials and not summary["failed"], summary
    states = sorted(folder.glob("home/sweeps/*/0000-*.safetensors"))
    own = ended.filter(trial=0)["seconds"].item()
    first = max(0.0, states[0].stat().st_mtime - own - began)
    return wall, ended["seconds"].sum(), first, summary["epochs_trained"]


if __name__ == "__main__":
    sys.exit(main(run))
