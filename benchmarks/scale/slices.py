"""100 slices against a bare process pool: ``python -m benchmarks.scale.slices``.

Both sides train, judge and explain a model of the demo's kind for each of 100 slices by the same function, on the same
rows, with two processes, and write the same files. Bare: ``concurrent.futures`` with spawned processes. Ours: what the
train step calls. Each side is a fresh process; reading and the global model's scores come before both and count in the
second number. Ours begins Ray's start meanwhile; the first number counts the whole of that start all the same.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.scale.bars import Result, main
from components.slices.fit import Fitted, Job, Part, fit
from seaway.config import Config, load

SLICES, PROCESSES, BAR = 100, 2, 1.3
ROWS = {"sweep_train": 2000, "valid": 1000, "train": 3000}  # of a slice
PARAMS = {"hidden": 64, "layers": 2, "members": 2, "dropout": 0.1, "batch_size": 128, "learning_rate": 0.003}
CHOSEN = {"params": PARAMS, "epochs": 6, "threshold": 0.5}
BY = "TERMINAL_ID"
WIDTH = 15  # features


def configured(folder: Path) -> Config:
    return load(
        overrides={
            "home": str(folder / "home"),
            "compute": {"device": "cpu", "cpus": PROCESSES},
            "workload": {"slices": {"by": BY}},
        }
    )


def made(folder: Path) -> None:
    """The splits, in each slice another law, and the bundle of a global model."""
    import torch

    from components.train.export import write_bundle
    from components.train.loop import Rows, Training
    from feature_repo.definitions import FEATURES
    from workload.model import build

    torch.set_num_threads(1)
    draw, width = np.random.default_rng(0), len(FEATURES.names)
    laws = draw.normal(size=(SLICES, width)) * 1.5
    for name, rows in ROWS.items():
        where = np.repeat(np.arange(SLICES), rows)
        features = draw.lognormal(0.0, 1.0, (len(where), width)).astype(np.float32)
        chance = 1 / (1 + np.exp(1 - (np.log(features) * laws[where]).sum(axis=1)))
        columns = {n: features[:, i] for i, n in enumerate(FEATURES.names)} | {BY: where}
        columns["TX_FRAUD"] = (draw.random(len(where)) < chance).astype(np.int8)
        pl.DataFrame(columns).sample(fraction=1.0, shuffle=True, seed=1).write_parquet(folder / f"{name}.parquet")
    some = Rows(features[:5000], columns["TX_FRAUD"][:5000].astype(np.float32))
    training = Training(build, PARAMS, some, None, max_epochs=1, device="cpu")
    training.epoch()
    record = {"workload": "benchmark", "kind": "torch", "threshold": 0.5, "metrics": {}, "seed": 0}
    write_bundle(folder / "global", training.model, FEATURES, some.features, params=PARAMS, **record)


def ours(folder: Path) -> dict[str, float]:
    import torch

    from components.slices.step import add_slices
    from feature_repo.definitions import FEATURES

    torch.set_num_threads(1)  # as the train step
    began = time.perf_counter()
    found = add_slices(configured(folder), FEATURES, folder, CHOSEN, folder / "ours")
    whole = time.perf_counter() - began
    return {"whole": whole, "start": found["start_seconds"], "fits": found["fit_seconds"], "kept": found["kept"]}


_job: list[Job] = []  # in a process of the pool


def take(job: Job) -> None:
    _job.append(job)


def one(part: Part) -> Fitted:
    return fit(_job[0], part)


def bare(folder: Path) -> dict[str, float]:
    import torch

    from components.slices.step import Table, known_scores
    from components.slices.write import template_of
    from feature_repo.definitions import FEATURES
    from seaway.artifacts import read_json
    from workload.model import build

    torch.set_num_threads(1)
    began, config, out = time.perf_counter(), configured(folder), folder / "bare"
    table, sweep, record = Table(config, FEATURES, folder, BY), config.workload.sweep, read_json(out / "model.json")
    template = template_of(build(PARAMS, np.zeros(WIDTH, np.float32), np.ones(WIDTH, np.float32)), WIDTH)
    job = Job(
        "workload.model", str(config.root), PARAMS, CHOSEN["epochs"], sweep.seed, sweep.metric, template, record, 200
    )
    known = known_scores(job, table.splits, "cpu")
    pool_began, found = time.perf_counter(), {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, context, take, (job,)) as pool:
        parts = [table.part(value, known) for value in table.values]
        for value, fitted in zip(table.values, pool.map(one, parts), strict=True):
            found[value] = fitted.record
            if fitted.record["kept"]:
                at = out / "slices" / value
                at.mkdir(parents=True)
                (at / "model.onnx").write_bytes(fitted.onnx)
                (at / "model.json").write_text(json.dumps(fitted.model))
    (out / "slices.json").write_text(json.dumps(found))
    ended = time.perf_counter()
    return {"whole": ended - began, "fits": ended - pool_began, "kept": sum(r["kept"] for r in found.values())}


def alone(side: Callable[[Path], dict[str, float]], folder: Path) -> dict[str, Any]:
    """``side`` in a fresh process."""
    shutil.copytree(folder / "global", folder / side.__name__)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        found = pool.submit(side, folder).result()
    print(f"{side.__name__}: " + ", ".join(f"{k} {v:.4g}" for k, v in found.items()), flush=True)
    return found


def run() -> list[Result]:
    with tempfile.TemporaryDirectory(prefix="seaway-bench-") as name:
        folder = Path(name)
        made(folder)
        pool, our = alone(bare, folder), alone(ours, folder)
    assert our["kept"] == pool["kept"], (our, pool)
    fits = our["start"] + our["fits"]
    return [
        Result(
            "100 slices / process pool, all of Ray's start counted",
            fits / pool["fits"],
            BAR,
            f"{fits:.1f} s, of which Ray's start {our['start']:.1f} s, against {pool['fits']:.1f} s; "
            f"{our['kept']} of {SLICES} models kept; without the start {our['fits'] / pool['fits']:.2f}x",
        ),
        Result(
            "100 slices / process pool, with reading and the global model's scores",
            our["whole"] / pool["whole"],
            BAR,
            f"{our['whole']:.1f} s against {pool['whole']:.1f} s; Ray starts meanwhile",
        ),
    ]


if __name__ == "__main__":
    sys.exit(main(run))
