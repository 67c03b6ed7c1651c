"""A tiny model bundle and its online store, and steady traffic, for tests that serve for real."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from seaway.artifacts import write_json
from seaway.features import FeatureSpec, Request, Window

SPEC = FeatureSpec(
    version="tiny",
    time="at",
    inputs=("person", "amount", "at"),
    requests=(Request("amount_now", "amount"),),
    windows=(
        Window(
            view="person",
            entity="person",
            key="person",
            value="amount",
            count="person_count_{n}d",
            mean="person_mean_{n}d",
            quantum=0.01,
            include_current=True,
        ),
    ),
)
PROJECT = "seaway"


def message(*rows, **tags):
    table = [list(row) for row in (rows or [(7, 12.5, "2024-05-04T10:00:00")])]
    return {"data": {"names": list(SPEC.inputs), "ndarray": table}, "meta": {"tags": tags}}


@dataclass(frozen=True)
class Bundles:
    """Makes signed bundles below a folder; ``store`` is the online store's settings, without any history."""

    folder: Path
    store: dict[str, str]
    spec: FeatureSpec = SPEC

    @property
    def trust(self) -> dict[str, str]:
        """The section trust of a configuration: the keys that sign the bundles, made at first use."""
        from seaway.config import load
        from seaway.keys import ensure_keys

        private, public = ensure_keys(load(overrides={"home": str(self.folder)}))
        return {"private_key": str(private), "public_key": str(public)}

    def trusted(self, bundle: str) -> dict[str, str]:
        """The parameters digest and public_key of a predictor that serves the bundle."""
        from seaway.signing import digest

        return {"digest": digest(Path(bundle)), "public_key": self.trust["public_key"]}

    def sign(self, bundle: str | Path) -> str:
        from seaway.signing import sign

        return str(sign(Path(bundle), Path(self.trust["private_key"])).parent)

    def make(self, version: str, bias: float = -1.0, weight: float = 0.1, **changes) -> str:
        """sigmoid(bias + weight * amount_now), threshold 0.5, registered as ``version``."""
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        width = len(self.spec.names)
        column = np.zeros((width, 1), dtype=np.float32)
        column[0] = weight
        values = {"w": column, "b": np.array([bias], dtype=np.float32), "axis": np.array([1], dtype=np.int64)}
        nodes = [
            helper.make_node("MatMul", ["features", "w"], ["product"]),
            helper.make_node("Add", ["product", "b"], ["logit"]),
            helper.make_node("Sigmoid", ["logit"], ["column"]),
            helper.make_node("Squeeze", ["column", "axis"], ["probability"]),
        ]
        graph = helper.make_graph(
            nodes,
            "tiny",
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", width])],
            [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n"])],
            [numpy_helper.from_array(value, name) for name, value in values.items()],
        )
        out = self.folder / f"bundle-{version}"
        out.mkdir(parents=True, exist_ok=True)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
        onnx.save(model, str(out / "model.onnx"))
        record = {
            "threshold": 0.5,
            "features": self.spec.as_record(),
            "feature_hash": self.spec.hash,
            "background": [[0.0] * width] * 4,
            "reasons": self.spec.reasons(),
        }
        write_json(out / "model.json", record | changes)
        write_json(out / "identity.json", {"version": version, "run": f"run-{version}", "feature_hash": self.spec.hash})
        return self.sign(out)


@pytest.fixture(scope="session")
def bundles(tmp_path_factory) -> Bundles:
    folder = tmp_path_factory.mktemp("bundles")
    path = folder / "online.db"
    with sqlite3.connect(path) as connection:
        connection.execute(
            f'CREATE TABLE "{PROJECT}_person_history" (entity_key BLOB, feature_name TEXT, value BLOB, '
            "vector_value BLOB, event_ts timestamp, created_ts timestamp, PRIMARY KEY(entity_key, feature_name))"
        )
    return Bundles(folder, {"type": "sqlite", "path": str(path)})


class Traffic:
    """An open loop of one-row requests at ``rate`` a second in a thread; ``answers``: (status, version, seconds)."""

    def __init__(self, url: str, rate: float = 50.0):
        self.url, self.rate = f"{url}/api/v1.0/predictions", rate
        self.answers: list[tuple[int, str, float]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join()

    def mark(self) -> int:
        return len(self.answers)

    def statuses(self, since: int = 0) -> Counter:
        return Counter(status for status, _, _ in self.answers[since:])

    def versions(self, since: int = 0, until: int | None = None) -> Counter:
        return Counter(version for _, version, _ in self.answers[since:until])

    async def _run(self) -> None:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=10)
        async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as group:
            start, sent = time.monotonic(), 0
            while not self._stop.is_set():
                group.create_task(self._one(session))
                sent += 1
                await asyncio.sleep(max(0.0, start + sent / self.rate - time.monotonic()))

    async def _one(self, session) -> None:
        import aiohttp

        start, version = time.monotonic(), ""
        try:
            async with session.post(self.url, json=message()) as answer:
                status, text = answer.status, await answer.json()
                version = text["meta"]["tags"]["model_version"] if status == 200 else ""
        except (aiohttp.ClientError, TimeoutError):
            status = -1
        self.answers.append((status, version, time.monotonic() - start))


@pytest.fixture
def traffic():
    return Traffic


@pytest.fixture
def ask():
    return message
