"""Keeping the online store in step with events: filled once, then one small write an event.

Written through Feast's online store interface, in Feast's format. The offline table and this stream
share the feature definitions; parity between the two is tested bit for bit.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from seaway.config import Config
from seaway.errors import SeawayError
from seaway.feast_store import apply, open_feature_store
from seaway.features import MICRO, FeatureSpec, Latest, micros, to_quanta
from seaway.online import INPUT_PREFIX, history_features, history_view, parse_time
from seaway.online_format import encode_int64_list
from serving.history import History

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class FeatureStream:
    """The one writer of a release's online store. Readers in other processes see each write at once.

    ``features_dir``: the feature step's folder; ``store``: as for seaway.online.OnlineReader. Safe to
    call from several threads.
    """

    def __init__(self, config: Config, spec: FeatureSpec, features_dir: Path, store: Mapping[str, Any]):
        self._spec, self._features = spec, Path(features_dir)
        label = config.workload.label
        self._label_delay = micros(label.delay)
        self._histories = [History(w, self._label_delay if w.value == label.column else None) for w in spec.windows]
        self._latest = [_Arrivals(view, self._features) for view in spec.latest]
        self._lock = threading.Lock()
        self._feast = open_feature_store(config, self._features, _registry(config, store), dict(store))
        apply(self._feast, config)
        self._views = {v.name: v for v in self._feast.list_feature_views()}
        self._online = self._feast._get_provider().online_store
        if store["type"] == "sqlite":
            _write_ahead(self._online._get_conn(self._feast.config))

    def materialize(self, as_of: int) -> dict[str, int]:
        """Set the store to its state just before ``as_of`` (int64 microseconds); entities written by view.

        Events before ``as_of`` count, labels and other sources' rows that were known by then too.
        """
        with self._lock:
            written = {}
            for history in self._histories:
                keys, times, quanta = self._events(history, as_of)
                history.load(keys, times, quanta, as_of)
                self._clear(history_view(history.window))
                written[history_view(history.window)] = self._write_histories(history, history.entities(), as_of)
            for arrivals in self._latest:
                self._clear(arrivals.view.view)
                written[arrivals.view.view] = self._write_latest(arrivals.view, arrivals.reset(as_of))
            return written

    def push_events(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take in events after their requests were answered, in order: inputs, and the label that will be known."""
        with self._lock:
            changed: list[set[int]] = [set() for _ in self._histories]
            now = None
            for row in rows:
                now = parse_time(row[self._spec.time])
                for history, keys in zip(self._histories, changed, strict=True):
                    window = history.window
                    value = row.get(f"{INPUT_PREFIX}{window.value}", row.get(window.value))
                    if value is None:
                        continue  # a label that never came
                    quanta = int(to_quanta(np.array([value]), window.quantum)[0])
                    if history.add(int(row[window.key]), now, quanta):
                        keys.add(int(row[window.key]))
            for history, keys in zip(self._histories, changed, strict=True):
                self._write_histories(history, keys, now)

    def advance(self, now: int) -> None:
        """Let in the labels and the other sources' rows that became known by ``now`` (microseconds)."""
        with self._lock:
            for history in self._histories:
                self._write_histories(history, history.release(now), now)
            for arrivals in self._latest:
                self._write_latest(arrivals.view, arrivals.until(now))

    def close(self) -> None:
        with self._lock:
            connection = getattr(self._online, "_conn", None)
            if connection is not None:
                connection.close()
                self._online._conn = None

    def _events(self, history: History, as_of: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        window, time = history.window, self._spec.time
        table = pl.scan_parquet(self._features / "features.parquet")
        stored = f"{INPUT_PREFIX}{window.value}"
        value = stored if stored in table.collect_schema().names() else window.value
        edge = _datetime(as_of).replace(tzinfo=None)
        reach = edge - timedelta(microseconds=window.horizon + MICRO)
        rows = table.filter(pl.col(time) >= reach, pl.col(time) < edge).select(window.key, time, value).collect()
        times = rows[time].cast(pl.Datetime("us")).to_physical().to_numpy()
        return rows[window.key].to_numpy(), times, to_quanta(rows[value].to_numpy(), window.quantum)

    def _write_histories(self, history: History, keys: Iterable[int], now: int | None) -> int:
        names = history_features(history.window)
        rows = [(key, dict(zip(names, map(encode_int64_list, history.of(key)), strict=True)), now) for key in keys]
        return self._write(history_view(history.window), history.window.key, rows)

    def _write_latest(self, view: Latest, rows: Iterable[Mapping[str, Any]]) -> int:
        from feast.protos.feast.types.Value_pb2 import Value

        data = []
        for row in rows:
            values = {n: Value(float_val=row[n]) if row[n] is not None else Value() for n in view.names}
            data.append((row[view.key], {n: v.SerializeToString() for n, v in values.items()}, row["event_timestamp"]))
        return self._write(view.view, view.key, data)

    def _write(self, view: str, key: str, rows: list[tuple[int, dict[str, bytes], int]]) -> int:
        from feast.protos.feast.types.EntityKey_pb2 import EntityKey
        from feast.protos.feast.types.Value_pb2 import Value

        if not rows:
            return 0
        data = [
            (
                EntityKey(join_keys=[key], entity_values=[Value(int64_val=entity)]),
                {name: Value.FromString(blob) for name, blob in values.items()},
                _datetime(stamp),
                None,
            )
            for entity, values, stamp in rows
        ]
        self._online.online_write_batch(self._feast.config, self._views[view], data, None)
        return len(rows)

    def _clear(self, view: str) -> None:
        """Rows of an earlier run must not outlive it."""
        if isinstance(getattr(self._online, "_conn", None), sqlite3.Connection):
            with self._online._conn as connection:
                connection.execute(f'DELETE FROM "{self._feast.project}_{view}"')  # noqa: S608  our own names
        else:
            self._online.delete_table(self._feast.config, self._views[view])


class _Arrivals:
    """The rows of a Latest view in the order in which they became known."""

    def __init__(self, view: Latest, features: Path):
        file = features / f"{view.view}.parquet"
        if not file.exists():
            raise SeawayError(f"{file} does not exist: run the features step first")
        rows = pl.read_parquet(file).sort("event_timestamp", "created_timestamp", maintain_order=True)
        self.view = view
        self._rows = rows.with_columns(pl.col("event_timestamp").cast(pl.Datetime("us")).to_physical())
        self._times = self._rows["event_timestamp"].to_numpy()
        self._next = 0

    def reset(self, as_of: int) -> list[dict[str, Any]]:
        """The newest row of each key at ``as_of``; later ones come with ``until``."""
        self._next = int(np.searchsorted(self._times, as_of, side="right"))
        return self._newest(self._rows.head(self._next))

    def until(self, now: int) -> list[dict[str, Any]]:
        start, self._next = self._next, max(self._next, int(np.searchsorted(self._times, now, side="right")))
        return self._newest(self._rows.slice(start, self._next - start))

    def _newest(self, rows: pl.DataFrame) -> list[dict[str, Any]]:
        return rows.unique(subset=[self.view.key], keep="last", maintain_order=True).to_dicts()


def _registry(config: Config, store: Mapping[str, Any]) -> Path:
    """A release has its own Feast registry, so that no pipeline run writes to it meanwhile."""
    if store.get("type") == "sqlite" and store.get("path"):
        return Path(f"{store['path']}.registry")
    return config.home / "online" / "registry.db"


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Readers go on while the one writer commits, and a commit is no wait for the disk.

    After a power cut the newest commits may be missing; a release materialises again anyway.
    """
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA busy_timeout=5000")


def _datetime(moment: int) -> datetime:
    return _EPOCH + timedelta(microseconds=int(moment))
