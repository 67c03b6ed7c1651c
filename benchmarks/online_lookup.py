"""Features of one request: our reader in the process, Feast's SDK, and the bare store under both.

``python -m benchmarks.online_lookup [--seconds 5] [--serve] [--redis HOST:PORT]``. One store, filled through
Feast's write path with histories of 5,000 and 10,000 entities; the sides alternate in blocks of 200 requests and
must give the same features. "bare" reads the two rows and decodes nothing. With ``--serve``, ``feast serve`` with
one worker is asked too (it takes about 20 s to start).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from components.features.step import features
from seaway.config import load
from seaway.feast_store import open_feature_store
from seaway.features import MICRO
from seaway.hooks import resolve
from seaway.online import OnlineReader, history_features, history_view, project_name, request_of
from serving.stream import FeatureStream


def generated(folder: Path, customers: int = 5000, terminals: int = 10000, rows: int = 380_000) -> None:
    """40 days of events at the published rate; what they say does not matter here."""
    draw = np.random.default_rng(0)
    seconds = np.sort(draw.integers(0, 40 * 86_400, rows)) + 1_533_081_600
    pl.DataFrame(
        {
            "TRANSACTION_ID": np.arange(rows),
            "TX_DATETIME": pl.Series(seconds * MICRO).cast(pl.Datetime("us")),
            "CUSTOMER_ID": draw.integers(0, customers, rows),
            "TERMINAL_ID": draw.integers(0, terminals, rows),
            "TX_AMOUNT": np.round(draw.gamma(2, 25, rows), 2),
            "TX_FRAUD": (draw.random(rows) < 0.01).astype(np.int64),
        }
    ).write_parquet(folder / "transactions.parquet")


@contextmanager
def feast_serve(folder: Path, store: Any) -> Iterator[Callable[[dict[str, Any]], np.ndarray]]:
    """``feast serve`` with one worker over the same store; asked over one kept connection a request."""
    config = store.config
    settings = {
        "project": config.project,
        "provider": "local",
        "registry": str(config.registry.path),
        "online_store": {"type": "sqlite", "path": config.online_store.path},
        "offline_store": {"type": config.offline_store.type, "root": config.offline_store.root},
        "entity_key_serialization_version": 3,
    }
    (folder / "repo").mkdir()
    (folder / "repo" / "feature_store.yaml").write_text(json.dumps(settings))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    feast = str(Path(sys.executable).parent / "feast")
    command = [feast, "-c", str(folder / "repo"), "serve", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--no-access-log", "--workers", "1", "--max-requests", "0"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    service = next(s.name for s in store.list_feature_services() if s.name.endswith("_online"))

    def ask(request: dict[str, Any]) -> np.ndarray:
        columns = {name: [value] for name, value in request.items()}
        body = json.dumps({"feature_service": service, "entities": columns}).encode()
        url = f"http://127.0.0.1:{port}/get-online-features"
        headers = {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30) as reply:
            answer = json.load(reply)
        names = answer["metadata"]["feature_names"]
        return dict(zip(names, (r["values"][0] for r in answer["results"]), strict=True))

    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None:
                raise SystemExit("feast serve did not start")
            time.sleep(0.2)
        yield ask
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5, help="for each side")
    parser.add_argument("--serve", action="store_true", help="ask `feast serve` too")
    parser.add_argument("--redis", help="host:port of a running server, instead of SQLite")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = load(overrides={"home": str(folder)})
        spec = resolve(config.workload.features, config.root)
        generated(folder)
        features(config.workload, spec, folder, folder / "features")
        table = pl.read_parquet(folder / "features" / "features.parquet").tail(20_000)
        now = int(table["event_timestamp"].to_physical()[0])
        store = {"type": "sqlite", "path": str(folder / "online.db")}
        if options.redis:
            store = {"type": "redis", "connection": options.redis}
        stream = FeatureStream(config, spec, folder / "features", store)
        start = time.perf_counter()
        written = stream.materialize(now)
        print(f"{sum(written.values()):,} histories written through Feast in {time.perf_counter() - start:.2f} s")
        requests = [request_of(spec, row) for row in table.sample(2000, seed=0).to_dicts()]
        reader = OnlineReader(store, project_name(config.workload.name), spec)
        registry = Path(f"{store['path']}.registry") if "path" in store else folder / "online" / "registry.db"
        feast = open_feature_store(config, folder / "features", registry, store)
        service = feast.get_feature_service(f"{spec.version}_online")

        def sdk(request: dict[str, Any]) -> np.ndarray:
            answer = feast.get_online_features(service, [request]).to_dict()
            return np.array([answer[name][0] for name in spec.names], dtype=np.float32)

        histories = [f"{history_view(w)}:{name}" for w in spec.windows for name in history_features(w)]

        def sdk_read(request: dict[str, Any]) -> Any:
            keys = {w.key: request[w.key] for w in spec.windows}
            return feast.get_online_features(histories, [keys])

        def raw(request: dict[str, Any]) -> Any:
            return reader._store.read(reader._window_keys(request))

        sides: dict[str, Callable[[dict[str, Any]], Any]] = {
            "our reader": reader.features,
            "Feast SDK, same features": sdk,
            "Feast SDK, histories only": sdk_read,
            "bare store read": raw,
        }
        for request in requests[:200]:
            if sdk(request).tobytes() != reader.features(request).tobytes():
                raise SystemExit(f"the features differ for {request}")
        print("our reader and Feast's SDK give the same float32 features for 200 requests")
        server = feast_serve(folder, feast) if options.serve and not options.redis else nullcontext()
        with server as ask:
            if ask:
                sides["feast serve -w 1"] = lambda request: ask(request | {spec.time: str(request[spec.time])})
            report(sides, requests, options.seconds)
        stream.close()


def report(sides: dict[str, Callable[[dict[str, Any]], Any]], requests: list[dict[str, Any]], seconds: float) -> None:
    taken: dict[str, list[float]] = {side: [] for side in sides}
    busy = dict.fromkeys(sides, 0.0)
    at = 0
    while min(busy.values()) < seconds:
        block = [requests[(at + i) % len(requests)] for i in range(200)]
        at += 200
        for side, call in sides.items():
            if busy[side] >= seconds:
                continue
            for request in block:
                start = time.perf_counter()
                call(request)
                taken[side].append(time.perf_counter() - start)
            busy[side] += sum(taken[side][-200:])
    ours = np.median(taken["our reader"])
    for side, values in taken.items():
        p50, p99 = np.percentile(values, [50, 99]) * 1e3
        ratio = p50 / ours / 1e3
        print(f"{side:26} p50 {p50:6.3f} ms  p99 {p99:7.3f} ms  {len(values):6} requests  {ratio:5.1f}x ours")


if __name__ == "__main__":
    main()
