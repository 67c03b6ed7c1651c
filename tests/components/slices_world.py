"""Slices without a training of the global model: a data set of machines, and a bundle that holds model.json alone."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import polars as pl

from seaway.artifacts import write_json

MACHINES = 6
CHOSEN = {"params": {"learning_rate": 0.02, "batch_size": 64, "width": 8, "nap": 0.01}, "epochs": 3}
SLICES = {"by": "machine", "minimum_rows": 100, "minimum_positives": 20, "bootstrap": 50}
# a model that ends its process where the feature ``still`` is -1 throughout
DEADLY = """
import os, signal
import toy_model

def build(params, mean, std):
    if mean[2] == -1:
        os.kill(os.getpid(), signal.SIGKILL)
    return toy_model.build(params, mean, std)
"""
RUN = "from slices_world import run; run(*__import__('sys').argv[1:])"


def make(folder: Path, deadly: int | None = None) -> Path:
    """Splits in which every second machine follows the opposite law; the machine ``deadly`` has still = -1."""
    draw = np.random.default_rng(5)
    for name, each in (("sweep_train", 200), ("valid", 200), ("train", 400)):
        machine = np.repeat(np.arange(MACHINES), each)
        features = draw.normal(size=(len(machine), 4)).astype(np.float32)
        features[:, 2] = np.where(machine == deadly, -1, 5)
        chance = 1 / (1 + np.exp(-4 * features[:, 0] * np.where(machine % 2, 1, -1) + 1))
        frame = {n: features[:, i] for i, n in enumerate(("size", "speed", "still", "hour"))}
        frame |= {"machine": machine, "failed": (draw.random(len(machine)) < chance).astype(np.int8)}
        pl.DataFrame(frame).write_parquet(folder / f"{name}.parquet")
    return folder


def bundle(spec, out: Path) -> Path:
    same = {"workload": "toy", "kind": "torch", "params": CHOSEN["params"], "reasons": spec.reasons()}
    write_json(out / "model.json", same | {"features": spec.as_record(), "feature_hash": spec.hash})
    return out


def files(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def run(
    here: str, hooks: str, data: str, out: str, cpus: str, model: str = "toy_model", how: str = "", where: str = ""
) -> None:
    """``add_slices`` in a process of its own, as the train step calls it; its summary as summary.json in ``here``.

    ``how`` it learns of the Ray at ``where``: "named" in the configuration, "given" by a job, "inside" it already; then
    whoever starts another Ray fails.
    """
    sys.path.insert(0, str(Path(__file__).parent))
    import torch
    from conftest import make_config

    from components.ray.place import joined
    from components.slices.step import add_slices

    torch.set_num_threads(1)
    config, spec = make_config(Path(here), Path(hooks), slices=SLICES, model=model)
    config = config.model_copy(update={"compute": config.compute.model_copy(update={"cpus": int(cpus)})})
    if how:
        from components.ray import local as local_ray

        local_ray.local_ray = None
    if how == "named":
        ray = config.ray.model_copy(update={"substrate": "address", "address": where})
        config = config.model_copy(update={"ray": ray})
    with joined(where) if how == "inside" else nullcontext():
        given = where if how == "given" else None
        found = add_slices(config, spec, Path(data), CHOSEN, bundle(spec, Path(out)), given)
        if how:
            import ray

            assert ray.is_initialized() == (how == "inside")  # who joined leaves, and nobody else
    write_json(Path(here) / "summary.json", found)
