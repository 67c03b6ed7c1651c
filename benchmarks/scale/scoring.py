"""Batch scoring against bare onnxruntime: the same rows in the same batches, on all cores of this machine.

Bare: onnxruntime alone on arrays that are in memory, a process a core (quicker than one process with a thread a core);
starting them and loading the model do not count. Ours: the command `seaway score` from its start to
its end, which starts Ray, reads Parquet, scores, and writes Parquet and manifests. The demo's
model (15 features) with its default size and random weights. Both sides in turn, medians of the rounds.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from datetime import date, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import polars as pl

from benchmarks.scale.bars import Result, main
from seaway.config import load, project_root

DAYS, A_DAY, ROUNDS, BAR = 183, 95_900, 3, 0.7  # ten times the published rows
CORES = len(os.sched_getaffinity(0))


def rows(seed: int, names: tuple[str, ...]) -> np.ndarray:
    """One day's features, float32 (A_DAY, features)."""
    return np.random.default_rng(seed).lognormal(1.0, 1.0, (A_DAY, len(names))).astype(np.float32)


def made(folder: Path) -> tuple[bytes, int]:
    """A home with a champion, and the days as Parquet; the model's bytes and the rows at a time."""
    import torch

    from components.train.export import export
    from feature_repo.definitions import FEATURES
    from seaway.artifacts import content_hash, write_json
    from seaway.registry import Registry
    from workload.model import build

    torch.manual_seed(0)
    config, bundle = load(overrides={"home": str(folder / "home")}), folder / "model"
    bundle.mkdir()
    draw = np.random.default_rng(0).lognormal(1.0, 1.0, (1000, len(FEATURES.names))).astype(np.float32)
    network = build({}, draw.mean(axis=0), draw.std(axis=0))
    export(network, len(FEATURES.names), bundle / "model.onnx")
    record = {"threshold": 0.5, "features": FEATURES.as_record(), "feature_hash": FEATURES.hash}
    write_json(bundle / "model.json", record)
    registry = Registry.of(config)
    identity = {"run": "benchmark", "feature_hash": FEATURES.hash}
    version = registry.register(bundle, content_hash(bundle), params={}, metrics={}, tags={}, identity=identity)
    registry.promote(version.version)
    source = config.workload.sources[config.workload.source]
    (folder / "data").mkdir()
    for day in range(DAYS):
        begin = datetime(2020, 1, 1) + timedelta(days=day)
        frame = pl.DataFrame(rows(day, FEATURES.names), schema=list(FEATURES.names)).with_columns(
            (pl.int_range(pl.len()) + day * A_DAY).alias(source.id),
            (pl.lit(begin) + pl.duration(seconds=8 * pl.int_range(pl.len()))).alias(source.time),
        )
        frame.write_parquet(folder / "data" / f"{date(2020, 1, 1) + timedelta(days=day)}.parquet", compression="lz4")
    return (bundle / "model.onnx").read_bytes(), config.scoring.batch


def bare(model: bytes, batch: int, days: range, names: tuple[str, ...], ready: Any, seconds: Any) -> None:
    """Put the seconds that these days' batches take; from the moment at which all processes are ready."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = 1, 1
    running = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    tables = [rows(day, names) for day in days]
    running.run(["probability"], {"features": tables[0][:batch]})
    ready.wait()
    began = time.perf_counter()
    for table in tables:
        for i in range(0, len(table), batch):
            running.run(["probability"], {"features": table[i : i + batch]})
    seconds.put(time.perf_counter() - began)


def bare_seconds(model: bytes, batch: int, names: tuple[str, ...]) -> float:
    context = multiprocessing.get_context("spawn")
    ready, seconds = context.Barrier(CORES), context.Queue()
    workers = [
        context.Process(target=bare, args=(model, batch, range(i, DAYS, CORES), names, ready, seconds))
        for i in range(CORES)
    ]
    for worker in workers:
        worker.start()
    found = [seconds.get(timeout=1800) for _ in workers]
    for worker in workers:
        worker.join()
    return max(found)


def ours(folder: Path, out: Path) -> tuple[float, float]:
    """Seconds of the command from its start to its end, and of these until the first partition was begun."""
    command = [str(Path(sys.executable).with_name("seaway")), "score", "--home", str(folder / "home")]
    command += ["--data", str(folder / "data"), "--out", str(out), "--json"]
    began = time.perf_counter()
    told = subprocess.run(command, cwd=project_root(), check=True, capture_output=True, text=True).stdout
    seconds, summary = time.perf_counter() - began, json.loads(told)
    assert summary["rows"] == DAYS * A_DAY and summary["scored"] == DAYS
    return seconds, seconds - summary["seconds"] + summary["start_seconds"]


def run() -> list[Result]:
    from feature_repo.definitions import FEATURES

    names, total = FEATURES.names, DAYS * A_DAY
    found: dict[str, list[float]] = {"bare": [], "ours": [], "start": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model, batch = made(folder)
        for n in range(ROUNDS):
            found["bare"].append(bare_seconds(model, batch, names))
            whole, start = ours(folder, folder / f"out-{n}")
            found["ours"].append(whole)
            found["start"].append(start)
            print(f"round {n + 1}: " + ", ".join(f"{k} {v[-1]:.1f} s" for k, v in found.items()), flush=True)
    middle = {name: median(values) for name, values in found.items()}
    detail = (
        f"{total:,} rows in batches of {batch}, {CORES} cores, medians of {ROUNDS}: {total / middle['ours']:,.0f} rows "
        f"a second against {total / middle['bare']:,.0f}; of our {middle['ours']:.1f} s the start took "
        f"{middle['start']:.1f} s"
    )
    return [
        Result(
            "batch scoring / bare onnxruntime, start included", middle["bare"] / middle["ours"], BAR, detail, least=True
        ),
        Result(
            "batch scoring / bare onnxruntime, start left out",
            middle["bare"] / (middle["ours"] - middle["start"]),
            BAR,
            "from the first partition's beginning to the end of the command",
            least=True,
        ),
    ]


if __name__ == "__main__":
    sys.exit(main(run))
