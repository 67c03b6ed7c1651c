"""What the sweeps of these benchmarks search: the demo's model on generated events, in a space of unknown good values.

``python -m benchmarks.scale.subject FOLDER`` makes the data set there. The space is wider than the demo's own, in
which most points are good already: a learning rate over five orders of magnitude, as one would begin with.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from seaway.config import Config, Sweep, load
from seaway.features import FeatureSpec
from seaway.hooks import resolve

SCALE = {"customers": 2500, "terminals": 5000, "days": 100}
SPACE = {
    "learning_rate": {"kind": "log_float", "low": 0.00001, "high": 1.0},
    "hidden": {"kind": "choice", "values": [16, 32, 64, 128]},
    "layers": {"kind": "int", "low": 1, "high": 3},
    "dropout": {"kind": "float", "low": 0.0, "high": 0.6},
    "batch_size": {"kind": "choice", "values": [64, 128, 256, 512]},
    "weight_decay": {"kind": "log_float", "low": 0.00001, "high": 1.0},
    "negative_share": {"kind": "choice", "values": [0.1]},
    "members": {"kind": "choice", "values": [1]},
}
MAX_EPOCHS = 27


def configured(folder: Path, **sweep: Any) -> tuple[Config, FeatureSpec]:
    """The configuration with its home in ``folder`` and decisions by default; ``sweep``: keys of workload.sweep."""
    usual = {name: Sweep.model_fields[name].default for name in ("grace_epochs", "reduction", "patience", "scheduler")}
    changed = {**usual, "max_epochs": MAX_EPOCHS, "space": SPACE, **sweep}
    overrides = {
        "home": str(folder / "home"),
        "scale": "bench",
        "workload": {"sweep": changed, "scales": {"bench": SCALE}},
        "compute": {"device": "cpu"},
    }
    config = load(overrides=overrides)
    return config, resolve(config.workload.features, config.root)


def made(folder: Path) -> Path:
    """The folder of the data set, made by the pipeline's own steps where it is not there yet."""
    out = folder / "dataset"
    if (out / "valid.parquet").exists():
        return out
    config, spec = configured(folder)
    workload = config.workload
    step = {
        name: getattr(importlib.import_module(f"components.{name}.step"), name)
        for name in ("ingest", "validate", "features", "dataset")
    }
    step["ingest"](workload, config.root, config.scale, folder / "raw")
    step["validate"](workload, folder / "raw", folder / "valid", folder / "quarantine")
    step["features"](workload, spec, folder / "valid", folder / "features")
    step["dataset"](config, spec, folder / "features", out)
    return out


if __name__ == "__main__":
    print(made(Path(sys.argv[1])))
