"""Serving: the same server asked directly and through Envoy, in one run; and what is inside an answer.

``python -m benchmarks.serving [--requests N] [--rounds N]``. The demo workload's 15 features over an SQLite
online store with histories of 10,000 entities a window; one gunicorn worker; the client, Envoy and the server
share this machine. Prints medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import socket
import sqlite3
import tempfile
import threading
from itertools import pairwise
from pathlib import Path
from time import perf_counter

import numpy as np

from feature_repo.definitions import FEATURES
from seaway.artifacts import write_json
from seaway.features import DAY
from seaway.online import OnlineReader, history_features, history_view
from seaway.online_format import encode_int64_list, entity_key
from serving.manifests import Predictor, seldon_deployment
from serving.substrate.local import LocalSubstrate

NOW = 1_538_000_000_000_000  # 2018-09-26 in microseconds
ENTITIES, EVENTS = 10_000, 60  # of each window, and of each entity within the window's horizon


def bundle(folder: Path) -> Path:
    """A bundle with a network of the demo model's size (15-128-128-1), random weights."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    draw = np.random.default_rng(0)
    sizes = [len(FEATURES.names), 128, 128, 1]
    nodes, weights, value = [], [numpy_helper.from_array(np.array([1]), "axis")], "features"
    for i, (rows, columns) in enumerate(pairwise(sizes)):
        matrix = draw.normal(0, 0.02, (rows, columns)).astype(np.float32)
        weights.append(numpy_helper.from_array(matrix, f"w{i}"))
        nodes.append(helper.make_node("MatMul", [value, f"w{i}"], [f"m{i}"]))
        nodes.append(helper.make_node("Relu" if columns > 1 else "Sigmoid", [f"m{i}"], [f"a{i}"]))
        value = f"a{i}"
    nodes.append(helper.make_node("Squeeze", [value, "axis"], ["probability"]))
    graph = helper.make_graph(
        nodes,
        "benchmark",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", sizes[0]])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n"])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, str(folder / "model.onnx"))
    background = draw.normal(10, 5, (32, sizes[0])).astype(np.float32).tolist()
    record = {"threshold": 0.5, "features": FEATURES.as_record(), "feature_hash": FEATURES.hash}
    write_json(folder / "model.json", record | {"background": background, "reasons": FEATURES.reasons()})
    return folder


def online_store(path: Path) -> dict[str, str]:
    """Histories in Feast's own SQLite layout."""
    draw = np.random.default_rng(1)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        for window in FEATURES.windows:
            table = f"seaway_{history_view(window)}"
            connection.execute(
                f'CREATE TABLE "{table}" (entity_key BLOB, feature_name TEXT, value BLOB, vector_value BLOB, '
                "event_ts timestamp, created_ts timestamp, PRIMARY KEY(entity_key, feature_name))"
            )
            rows = []
            for entity in range(ENTITIES):
                times = np.sort(NOW - draw.integers(0, window.horizon, EVENTS))
                quanta = draw.integers(0, 10_000 if window.quantum < 1 else 2, EVENTS)
                for name, values in zip(history_features(window), (times, quanta), strict=True):
                    blob = encode_int64_list(values)
                    rows.append((entity_key(window.key, entity), name, blob, None, "2018-09-26 00:00:00", None))
            connection.executemany(f'INSERT INTO "{table}" VALUES (?, ?, ?, ?, ?, ?)', rows)
    return {"type": "sqlite", "path": str(path)}


def rows(count: int) -> list[dict[str, object]]:
    """Requests of random known entities."""
    draw = np.random.default_rng(2)
    keys = {window.key for window in FEATURES.windows}

    def value(name: str) -> object:
        if name == FEATURES.time:
            return NOW + int(draw.integers(DAY))
        return int(draw.integers(ENTITIES)) if name in keys else round(float(draw.uniform(1, 200)), 2)

    return [{name: value(name) for name in FEATURES.inputs} for _ in range(count)]


class Client:
    """One keep-alive connection; requests are rendered beforehand."""

    def __init__(self, port: int, prefix: str, tags: dict[str, bool] | None = None):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.requests = [self._render(prefix, row, tags or {}) for row in rows(500)]

    @staticmethod
    def _render(prefix: str, row: dict[str, object], tags: dict[str, bool]) -> bytes:
        data = {"names": list(row), "ndarray": [list(row.values())]}
        body = json.dumps({"data": data, "meta": {"tags": tags}}).encode()
        head = f"POST {prefix}/api/v1.0/predictions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        return head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body

    def ask(self, number: int) -> float:
        """Seconds of one answer."""
        start = perf_counter()
        self.socket.sendall(self.requests[number % len(self.requests)])
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.socket.recv(65_536)
        head, _, body = answer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(answer.decode())
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        while len(body) < length:
            body += self.socket.recv(65_536)
        return perf_counter() - start


def one(port: int, prefix: str, requests: int, tags: dict[str, bool] | None = None) -> np.ndarray:
    client = Client(port, prefix, tags)
    return np.array([client.ask(i) for i in range(requests)][requests // 10 :]) * 1000


def many(port: int, prefix: str, clients: int, requests: int) -> float:
    """Requests a second of a closed loop."""
    loops = [Client(port, prefix) for _ in range(clients)]
    threads = [threading.Thread(target=lambda c=c: [c.ask(i) for i in range(requests // clients)]) for c in loops]
    start = perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return requests / (perf_counter() - start)


def lookup(store: dict[str, str]) -> np.ndarray:
    reader = OnlineReader(store, "seaway", FEATURES)
    taken = []
    for row in rows(3_000):
        start = perf_counter()
        reader.features(row)
        taken.append(perf_counter() - start)
    return np.array(taken[300:]) * 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=1_500)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        store = online_store(home / "online.db")
        predictor = Predictor("1", 100, str(bundle(home)), store)
        with LocalSubstrate(home / "home") as substrate:
            substrate.create(seldon_deployment("benchmark", "default", [predictor]))
            url = substrate.wait_ready("benchmark").url
            listed = json.loads((home / "home/run/envoy/clusters.json").read_text())["resources"]
            endpoint = listed[0]["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
            sides = {
                "direct": (endpoint["address"]["socket_address"]["port_value"], ""),
                "through Envoy": (int(url.split(":")[2].split("/")[0]), "/" + url.split("/", 3)[3]),
            }
            table = {name: [] for name in sides}
            for _ in range(arguments.rounds):
                for name, (port, prefix) in sides.items():
                    times = one(port, prefix, arguments.requests)
                    rps = many(port, prefix, 8, arguments.requests)
                    table[name].append((np.median(times), np.percentile(times, 99), rps))
            explained = one(*sides["direct"], 300, {"explain": True})
        looked = lookup(store)
    median = {name: np.median(found, axis=0) for name, found in table.items()}
    print(f"{'':16}{'p50 ms':>9}{'p99 ms':>9}{'rps, 8 clients':>16}")
    for name, (p50, p99, rps) in median.items():
        print(f"{name:16}{p50:9.2f}{p99:9.2f}{rps:16.0f}")
    added = median["through Envoy"] - median["direct"]
    print(f"{'added by Envoy':16}{added[0]:9.2f}{added[1]:9.2f}")
    print(f"with reasons, direct: p50 {np.median(explained):.2f} ms")
    print(f"look-up of 15 features (SQLite, in process): p50 {np.median(looked):.3f} ms, ", end="")
    print(f"p99 {np.percentile(looked, 99):.3f} ms (aim: p50 <= 1)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
