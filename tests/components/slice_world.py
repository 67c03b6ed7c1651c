"""A bundle with slices made by hand, and rows that its models are right about."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from seaway.artifacts import write_json
from seaway.features import FeatureSpec, Request

NAMES = ("size", "speed", "still", "hour")
SPEC = FeatureSpec(
    version="sites_v1",
    time="at",
    inputs=("machine", "site", "at", *NAMES),
    requests=tuple(Request(name, column=name, reason=f"the {name}") for name in NAMES),
)
BY = "site"
WEIGHTS = {"": (1.0, 0.0, 0.0, 0.0), "north": (0.0, 3.0, 0.0, 0.0), "7": (-2.0, 0.0, 0.0, 1.0)}


def write_model(folder: Path, spec, weights, background) -> None:
    """sigmoid(weights . features - 1), with reference rows of its own."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    values = {
        "w": np.array(weights, dtype=np.float32)[:, None],
        "b": np.array([-1], dtype=np.float32),
        "axis": np.array([1], dtype=np.int64),
    }
    nodes = [
        helper.make_node("MatMul", ["features", "w"], ["product"]),
        helper.make_node("Add", ["product", "b"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["column"]),
        helper.make_node("Squeeze", ["column", "axis"], ["probability"]),
    ]
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", len(weights)])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n"])],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10),
        str(folder / "model.onnx"),
    )
    write_json(
        folder / "model.json",
        {
            "workload": "toy",
            "kind": "linear",
            "params": {},
            "threshold": 0.5,
            "features": spec.as_record(),
            "feature_hash": spec.hash,
            "background": [list(row) for row in background],
            "reasons": spec.reasons(),
        },
    )


def write_bundle(folder: Path, spec, by: str = BY) -> Path:
    """A global model, and one each for north and 7, whose reference rows differ; "south" falls back."""
    for number, (name, weights) in enumerate(WEIGHTS.items()):
        where = folder / f"slices/{number:03d}" if name else folder
        write_model(where, spec, weights, [[number, number, 5.0, -number]] * 3)
    write_model(folder / "baseline", spec, (0.5, 0, 0, 0), [[0, 0, 5.0, 0]])
    kept = {
        name: {"folder": f"slices/{i:03d}", "threshold": 0.2 + 0.1 * i, "rows": 900, "positives": 90}
        | {"own": 0.8, "global": 0.5}
        for i, name in enumerate(WEIGHTS)
        if name
    }
    left = {"south": {"rows": 30, "positives": 2, "kept": False, "reason": "30 rows, fewer than minimum_rows 500"}}
    write_json(folder / "slices.json", {"by": by, "metric": "average_precision", "kept": kept, "left": left})
    return folder


def write_dataset(folder: Path) -> Path:
    """Rows of two sites with a model of their own, one that fell back and one that training never saw."""
    draw = np.random.default_rng(5)
    features = draw.normal(size=(3000, 4)).astype(np.float32)
    features[:, 2] = 5.0
    site = draw.choice(["north", "7", "south", "elsewhere"], 3000, p=(0.4, 0.4, 0.15, 0.05))
    weights = np.array([WEIGHTS.get(name, WEIGHTS[""]) for name in site])
    chance = 1 / (1 + np.exp(1 - (weights * features).sum(axis=1)))
    frame = {"id": np.arange(3000), "machine": draw.integers(0, 60, 3000), BY: site}
    frame |= {"at": pl.datetime_range(pl.datetime(2024, 1, 1), pl.datetime(2024, 1, 2), "1s", eager=True)[:3000]}
    frame |= {n: features[:, i] for i, n in enumerate(("size", "speed", "still", "hour"))}
    pl.DataFrame({**frame, "failed": (draw.random(3000) < chance).astype(np.int8)}).write_parquet(
        folder / "test.parquet"
    )
    return folder
