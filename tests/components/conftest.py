"""A small synthetic data set and workload for the tests of tune, train and evaluate."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from seaway.config import Config, load
from seaway.features import FeatureSpec
from seaway.hooks import resolve

MODEL = """
import time

import torch


def build(params, mean, std):
    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.as_tensor(mean))
            self.register_buffer("std", torch.as_tensor(std))
            width = params.get("width", 8)
            self.body = torch.nn.Sequential(
                torch.nn.Linear(len(mean), width), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Linear(width, 1)
            )

        def forward(self, rows):
            if self.training:
                time.sleep(params.get("nap", 0))
            return self.body((rows - self.mean) / self.std).squeeze(1)

    return Network()
"""
SPEC = """
from seaway.features import FeatureSpec, Request

NAMES = ("size", "speed", "still", "hour")
SPEC = FeatureSpec(
    version="toy_v1",
    time="at",
    inputs=("machine", "at", *NAMES),
    requests=tuple(Request(name, column=name, reason=f"the {name}") for name in NAMES),
)
"""


def workload(**changes: Any) -> dict[str, Any]:
    made = {
        "name": "toy",
        "source": "events",
        "sources": {"events": {"path": "none", "id": "id", "time": "at", "columns": {"at": {"type": "datetime"}}}},
        "entities": {"machine": "machine"},
        "label": {"column": "failed"},
        "feature_repo": "none",
        "features": "toy_spec:SPEC",
        "model": "toy_model",
        "segments": [
            {"name": "size", "column": "size", "cuts": [0.0]},
            {"name": "hour", "column": "at", "hours": [12]},
        ],
        "top_k": {"entity": "machine", "k": 10},
        "sweep": {
            "space": {
                "learning_rate": {"kind": "log_float", "low": 0.001, "high": 0.03},
                "width": {"kind": "int", "low": 4, "high": 16},
                "batch_size": {"kind": "choice", "values": [64, 128]},
                "nap": {"kind": "choice", "values": [0.01]},
            },
            "trials": 4,
            "max_epochs": 4,
            "grace_epochs": 2,
            "warm_start": 0,  # MLflow takes seconds
        },
        "gates": {"minimum": {"auc_roc": 0.6}, "min_segment_rows": 100, "bootstrap": 50},
    }
    return {**made, **changes}


def make_config(folder: Path, hooks: Path, **changes: Any) -> tuple[Config, FeatureSpec]:
    """A configuration in ``folder`` whose model and features are the toy's in ``hooks``."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "workload.yaml"
    file.write_text(yaml.safe_dump(workload(root=str(hooks), **changes)))
    config = load(workload=file, overrides={"home": str(folder / "home"), "compute": {"device": "cpu", "cpus": 2}})
    return config, resolve(config.workload.features, config.root)


def make_dataset(folder: Path, rows: int = 1500, seed: int = 0) -> Path:
    """sweep_train, valid, train and test; ``still`` is constant; a third of the signal is not linear."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    for day, name in enumerate(("sweep_train", "valid", "train", "test")):
        features = draw.normal(size=(rows, 4)).astype(np.float32)
        features[:, 2] = 5.0
        logit = -2.5 + 1.5 * features[:, 0] + features[:, 0] * features[:, 1] + 0.3 * features[:, 3]
        start = datetime(2024, 1, 1) + timedelta(days=10 * day)
        frame = pl.DataFrame(
            {
                "id": np.arange(rows),
                "at": [start + timedelta(minutes=3 * i) for i in range(rows)],
                "machine": draw.integers(0, 60, rows),
                "failed": (draw.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.int64),
                **{n: features[:, i] for i, n in enumerate(("size", "speed", "still", "hour"))},
            }
        )
        frame.with_columns(event_timestamp=pl.col("at")).write_parquet(folder / f"{name}.parquet")
    return folder


@pytest.fixture(scope="session")
def toy_dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("toy") / "dataset")


@pytest.fixture(scope="session")
def toy_hooks(tmp_path_factory):
    """One folder for the whole session, as Python loads a module of one name once."""
    folder = tmp_path_factory.mktemp("toy-hooks")
    (folder / "toy_model.py").write_text(MODEL)
    (folder / "toy_spec.py").write_text(SPEC)
    return folder


@pytest.fixture
def toy(tmp_path, toy_hooks):
    """Makes (config, spec) in the test's own folder; keywords change the workload."""
    return lambda **changes: make_config(tmp_path / "workload", toy_hooks, **changes)
