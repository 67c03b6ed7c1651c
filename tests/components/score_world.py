"""A registered model, tables of features to score, and a server to compare with, for the tests of batch scoring."""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from components.score.model import load
from components.score.places import Place
from components.score.step import destination, score_table
from seaway.artifacts import content_hash, write_json
from seaway.config import Config
from seaway.features import FeatureSpec
from seaway.registry import Registry, Version

START = datetime(2024, 1, 1)
HIDDEN = (24, 24)


def make_bundle(folder: Path, spec: FeatureSpec, seed: int = 0) -> Path:
    """A network with random weights, whose output in onnxruntime hangs on how many rows are asked for at once."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    draw, sizes = np.random.default_rng(seed), [len(spec.names), *HIDDEN, 1]
    weights = [numpy_helper.from_array(np.array([1]), "axis"), numpy_helper.from_array(np.float32([1]), "one")]
    nodes, value = [], "features"
    for i, (rows, columns) in enumerate(pairwise(sizes)):
        weights.append(numpy_helper.from_array(draw.normal(0, 0.5, (rows, columns)).astype(np.float32), f"w{i}"))
        nodes.append(helper.make_node("MatMul", [value, f"w{i}"], [f"m{i}"]))
        nodes += [helper.make_node("Relu", [f"m{i}"], [f"a{i}"])] if columns > 1 else []
        value = f"a{i}" if columns > 1 else f"m{i}"
    # onnxruntime takes the logarithm of the last few values by other instructions than that of the others
    steps = (("Abs", [value]), ("Add", ["Abs", "one"]), ("Log", ["Add"]), ("Sign", [value]), ("Mul", ["Log", "Sign"]))
    nodes += [helper.make_node(name, takes, [name]) for name, takes in (*steps, ("Sigmoid", ["Mul"]))]
    nodes.append(helper.make_node("Squeeze", ["Sigmoid", "axis"], ["probability"]))
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", sizes[0]])
    probability = helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n"])
    graph = helper.make_graph(nodes, "test", [features], [probability], weights)
    folder.mkdir(parents=True)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), str(folder / "model.onnx")
    )
    record = {
        "threshold": 0.5,
        "features": spec.as_record(),
        "feature_hash": spec.hash,
        "background": draw.normal(size=(4, sizes[0])).astype(np.float32).tolist(),
        "reasons": spec.reasons(),
    }
    write_json(folder / "model.json", record)
    return folder


def registered(config: Config, spec: FeatureSpec, folder: Path, seed: int = 0) -> Version:
    """A version of such a model, with the run ``run-<seed>``."""
    bundle = make_bundle(folder / f"model-{seed}", spec, seed)
    identity = {"run": f"run-{seed}", "feature_hash": spec.hash}
    return Registry.of(config).register(bundle, content_hash(bundle), params={}, metrics={}, tags={}, identity=identity)


def champion(config: Config, spec: FeatureSpec, folder: Path, seed: int = 0) -> Version:
    return Registry.of(config).promote(registered(config, spec, folder, seed).version)


def table(rows: int = 300, days: int = 3, seed: int = 1) -> pl.DataFrame:
    """Feature rows of the toy workload, sorted by time, over so many days."""
    draw = np.random.default_rng(seed)
    seconds = np.sort(draw.integers(0, days * 86_400, rows))
    values = draw.normal(size=(rows, 4)).astype(np.float32)
    return pl.DataFrame(
        {
            "id": np.arange(rows) + 1000 * seed,
            "at": [START + timedelta(seconds=int(s)) for s in seconds],
            "machine": draw.integers(0, 60, rows),
            **{n: values[:, i] for i, n in enumerate(("size", "speed", "still", "hour"))},
        }
    )


def write_days(frame: pl.DataFrame, folder: Path) -> Path:
    """The rows as a file a day."""
    folder.mkdir(parents=True, exist_ok=True)
    for (day,), rows in frame.group_by(pl.col("at").dt.date(), maintain_order=True):
        rows.write_parquet(folder / f"{day}.parquet")
    return folder


def one_by_one(config: Config, **scoring: Any) -> Config:
    """Without Ray: one worker."""
    return config.model_copy(update={"scoring": config.scoring.model_copy(update={"workers": 1, **scoring})})


def run(config: Config, data: Path | str, out: Path | str, **scoring: Any) -> dict[str, Any]:
    config = one_by_one(config, out=str(out), **scoring)
    return score_table(config, load(config, config.scoring.version), Place.of(config, str(data)), destination(config))


def serving(config: Config, folder: Path, which: str = "champion") -> Any:
    """The model server of a version, which reads no history: this workload's features are all in the request."""
    from prometheus_client import CollectorRegistry

    from serving.model_server import ModelServer

    file = folder / "online.db"
    sqlite3.connect(file).close()
    version = Registry.of(config).get(which)
    made = ModelServer(version.bundle, json.dumps({"type": "sqlite", "path": str(file)}), "seaway", version=which)
    made.load(CollectorRegistry())
    return made


def asked(
    server: Any, spec: FeatureSpec, rows: pl.DataFrame, at_once: int, **tags: Any
) -> tuple[list, dict[str, list]]:
    """(probability, decision) of each row, and the tags with a value a row, as answered to requests of so many rows."""
    answers, found = [], {"reasons": [], "slice": []}
    for chunk in rows.select(spec.inputs).iter_slices(at_once):
        lines = [[v.isoformat() if hasattr(v, "isoformat") else v for v in row] for row in chunk.iter_rows()]
        message = {"data": {"names": list(spec.inputs), "ndarray": lines}, "meta": {"tags": tags}}
        answer = server.predict_raw(message)
        answers += answer["data"]["ndarray"]
        for name, values in found.items():
            values += answer["meta"]["tags"].get(name, [])
    return answers, found
