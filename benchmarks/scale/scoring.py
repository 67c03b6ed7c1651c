"""Batch scoring against bare onnxruntime: the same rows in the same batches, on all cores of this machine.

Bare: a script with a process a core that reads each day's Parquet file, asks onnxruntime and writes the scores as
Parquet, with nothing else: no hashes, decisions, manifests. Starting its processes and loading the model do not
count. Ours: the command `seaway score` from its start to its end, with Ray's start. The demo's model (15 features)
with its default size and random weights. Both sides in turn, medians of the rounds. A harder number is told beside:
against the time that bare onnxruntime alone takes of its side, as if its rows were in memory and its scores nowhere.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timedelta
from itertools import repeat
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


def columns() -> tuple[str, ...]:
    from feature_repo.definitions import FEATURES

    return FEATURES.names


def write_day(day: int, folder: Path, identity: str, moment: str) -> None:
    begin, names = datetime(2020, 1, 1) + timedelta(days=day), columns()
    frame = pl.DataFrame(rows(day, names), schema=list(names)).with_columns(
        (pl.int_range(pl.len()) + day * A_DAY).alias(identity),
        (pl.lit(begin) + pl.duration(seconds=8 * pl.int_range(pl.len()))).alias(moment),
    )
    frame.write_parquet(folder / f"{begin.date()}.parquet", compression="lz4")


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
    with ProcessPoolExecutor(CORES, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(write_day, range(DAYS), repeat(folder / "data"), repeat(source.id), repeat(source.time)))
    return (bundle / "model.onnx").read_bytes(), config.scoring.batch


def bare(model: bytes, batch: int, folder: Path, out: Path, first: int, ready: Any, seconds: Any) -> None:
    """Score every CORES-th day from ``first`` on; put its seconds in all and those of onnxruntime alone."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = 1, 1
    running = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names, files, alone = columns(), sorted(folder.iterdir())[first::CORES], 0.0
    running.run(["probability"], {"features": rows(0, names)[:batch]})
    ready.wait()
    began = time.perf_counter()
    for file in files:
        frame = pl.read_parquet(file)
        table = frame.select(names).to_numpy(order="c")
        asked = time.perf_counter()
        found = [
            running.run(["probability"], {"features": table[i : i + batch]})[0] for i in range(0, len(table), batch)
        ]
        alone += time.perf_counter() - asked
        scored = frame.select(pl.exclude(names)).with_columns(pl.Series("probability", np.concatenate(found)))
        scored.write_parquet(out / file.name, compression="lz4")
    seconds.put((time.perf_counter() - began, alone))


def bare_seconds(model: bytes, batch: int, folder: Path, out: Path) -> tuple[float, float]:
    """Of the slowest process: seconds from the moment when all are ready, and those of onnxruntime alone."""
    out.mkdir()
    context = multiprocessing.get_context("spawn")
    ready, seconds = context.Barrier(CORES), context.Queue()
    workers = [context.Process(target=bare, args=(model, batch, folder, out, i, ready, seconds)) for i in range(CORES)]
    for worker in workers:
        worker.start()
    found = [seconds.get(timeout=1800) for _ in workers]
    for worker in workers:
        worker.join()
    return max(whole for whole, _ in found), max(alone for _, alone in found)


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
    os.environ["POLARS_MAX_THREADS"] = "1"  # of the bare processes: one a core
    total, found = DAYS * A_DAY, {"bare": [], "onnxruntime alone": [], "ours": [], "start": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model, batch = made(folder)
        for n in range(ROUNDS):
            sides = (
                *bare_seconds(model, batch, folder / "data", folder / f"bare-{n}"),
                *ours(folder, folder / f"out-{n}"),
            )
            for values, seconds in zip(found.values(), sides, strict=True):
                values.append(seconds)
            print(f"round {n + 1}: " + ", ".join(f"{k} {v[-1]:.1f} s" for k, v in found.items()), flush=True)
            same(folder / f"bare-{n}", folder / f"out-{n}" / "scores")
    middle = {name: median(values) for name, values in found.items()}
    whole, start = middle["ours"], middle["start"]
    detail = (
        f"{total:,} rows in batches of {batch}, {CORES} cores, medians of {ROUNDS}: {total / whole:,.0f} rows a second "
        f"against {total / middle['bare']:,.0f}; of our {whole:.1f} s the start took {start:.1f} s"
    )
    harder = f"{total / middle['onnxruntime alone']:,.0f} rows a second, reading and writing nothing"
    sustained = "from the first partition's beginning to the end of the command"
    return [
        Result("batch scoring / bare, start included", middle["bare"] / whole, BAR, detail, least=True),
        Result("batch scoring / bare, start left out", middle["bare"] / (whole - start), BAR, sustained, least=True),
        Result("batch scoring / onnxruntime in memory", middle["onnxruntime alone"] / whole, BAR, harder, least=True),
    ]


def same(bare: Path, ours: Path) -> None:
    """Both sides have scored the same rows, to what onnxruntime gives a row among others."""
    day = sorted(bare.iterdir())[DAYS // 2].name
    left, right = (pl.read_parquet(folder / day)["probability"].to_numpy() for folder in (bare, ours))
    np.testing.assert_allclose(left, right, atol=1e-6)


if __name__ == "__main__":
    sys.exit(main(run))
