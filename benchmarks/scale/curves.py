"""Full learning curves of random points of the space, recorded once: what schedulers are compared on by simulation.

``python -m benchmarks.scale.curves FOLDER [--points 240] [--processes 2] [--first 0]`` trains every point to the last
epoch, without patience, and writes a file a point below FOLDER/curves; points that are there are not trained again.
``read`` gives all of them as the rows of a finished sweep without scheduler, which is what `seaway plan` reads.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.scale import subject
from seaway.config import Parameter


def drawn(space: dict[str, Parameter], seed: int) -> dict[str, Any]:
    """A point of the space, each parameter by itself."""
    draw = np.random.default_rng([2026, seed])
    made: dict[str, Any] = {}
    for name, p in space.items():
        if p.kind == "choice":
            made[name] = p.values[int(draw.integers(len(p.values)))]
        elif p.kind == "int":
            made[name] = int(draw.integers(int(p.low), int(p.high) + 1))
        elif p.kind == "log_float":
            made[name] = float(np.exp(draw.uniform(np.log(p.low), np.log(p.high))))
        else:
            made[name] = float(draw.uniform(p.low, p.high))
    return made


def record(folder: Path, index: int) -> None:
    """Train point ``index`` to the end; CPU seconds by epoch, which a busy machine changes least."""
    import torch

    from components.train.data import read_rows
    from components.train.loop import Training
    from seaway.hooks import resolve

    file = folder / "curves" / f"{index:04d}.parquet"
    if file.exists():
        return
    torch.set_num_threads(1)
    config, spec = subject.configured(folder)
    sweep = config.workload.sweep
    train, valid = (read_rows(config, spec, folder / "dataset" / f"{n}.parquet") for n in ("sweep_train", "valid"))
    params = drawn(sweep.space, index)
    build = resolve(config.workload.model, config.root).build
    training = Training(
        build, params, train, valid, max_epochs=sweep.max_epochs, metric=sweep.metric, patience=10**6, device="cpu"
    )
    rows, spent = [], 0.0
    while not training.finished:
        before = time.process_time()
        try:
            result = training.epoch()
        except FloatingPointError:
            break
        spent += time.process_time() - before
        rows.append({"trial": index, "epoch": result["epoch"], sweep.metric: result[sweep.metric], "seconds": spent})
    if rows:
        frame = pl.DataFrame([{**row, **params, "status": "finished"} for row in rows])
        frame.write_parquet(file.with_suffix(".part"))
        file.with_suffix(".part").rename(file)


def read(folder: Path) -> pl.DataFrame:
    """A row per trial and epoch: trial, epoch, the metric, seconds since the trial began, params, status."""
    return pl.concat([pl.read_parquet(file) for file in sorted((folder / "curves").glob("*.parquet"))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--points", type=int, default=240)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    subject.made(options.folder)
    (options.folder / "curves").mkdir(exist_ok=True)
    points = range(options.first, options.first + options.points)
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        pool.starmap(record, [(options.folder, index) for index in points], chunksize=1)


if __name__ == "__main__":
    main()
