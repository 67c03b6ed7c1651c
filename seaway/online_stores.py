"""Reading Feast's online stores: rows of a view by serialised entity key, from SQLite or Redis."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from seaway.errors import SeawayError
from seaway.online_format import decode_timestamp

# named, not held: a connection stands in released objects and files, so the password is in the environment
PASSWORD = "SEAWAY_REDIS_PASSWORD"  # noqa: S105
Row = tuple[dict[str, bytes], int | None]  # value by feature name, event time in microseconds


class Store(Protocol):
    def read(self, wanted: list[tuple[str, bytes]]) -> list[Row]:
        """One row for each (view, entity key), in order; ({}, None) where there is none."""

    def close(self) -> None: ...


def open_store(store: Mapping[str, Any], project: str, views: Mapping[str, tuple[str, ...]]) -> Store:
    """The reader for a store's settings; ``views``: feature names by view. SeawayError for a bad setting."""
    kind = store.get("type")
    if kind == "sqlite" and store.get("path"):
        return SqliteStore(Path(store["path"]), project, views)
    if kind == "redis" and store.get("connection"):
        return RedisStore(str(store["connection"]), project, views)
    raise SeawayError(f"online store {dict(store)!r}: give type sqlite with a path, or type redis with a connection")


class SqliteStore:
    """One read-only connection a thread and process; no transaction outlives a read."""

    def __init__(self, path: Path, project: str, views: Mapping[str, tuple[str, ...]]):
        if not path.exists():
            raise SeawayError(f"online store {path} does not exist: materialise the features first")
        self._uri = f"{path.resolve().as_uri()}?mode=ro"
        self._local = threading.local()
        columns, key = "SELECT feature_name, value, event_ts FROM", "WHERE entity_key = ?"
        self._query = {view: f'{columns} "{project}_{view}" {key}' for view in views}  # names from the definitions

    def read(self, wanted: list[tuple[str, bytes]]) -> list[Row]:
        connection = self._connection()
        rows: list[Row] = []
        try:
            for view, key in wanted:
                found = connection.execute(self._query[view], (key,)).fetchall()
                rows.append(({name: value for name, value, _ in found}, _micros(found[0][2]) if found else None))
        except sqlite3.OperationalError as error:
            raise SeawayError(f"the online store cannot be read: {error}") from error
        return rows

    def close(self) -> None:
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None

    def _connection(self) -> sqlite3.Connection:
        # a connection must not cross a fork: the child opens its own
        if getattr(self._local, "connection", None) is None or self._local.pid != os.getpid():
            # autocommit: every SELECT starts from the newest committed state
            self._local.connection = sqlite3.connect(self._uri, uri=True, timeout=5, isolation_level=None)
            self._local.pid = os.getpid()
        return self._local.connection


def _micros(stamp: Any) -> int:
    """Feast's SQLite time column: seconds of the naive UTC time read as if it were local time."""
    moment = datetime.fromtimestamp(stamp) if isinstance(stamp, int) else datetime.fromisoformat(str(stamp))
    moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond


def redis_password() -> str:
    """What the environment gives; "" for a server that asks for none."""
    return os.environ.get(PASSWORD, "")


class RedisStore:
    """All views of an entity are fields of one hash; one round trip a read."""

    def __init__(self, connection: str, project: str, views: Mapping[str, tuple[str, ...]]):
        import mmh3
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        address, *options = connection.split(",")
        host, _, port = address.partition(":")
        # a request waits for its features: one more try on a fresh connection, then a clear error
        settings: dict[str, Any] = {"socket_timeout": 1.0, "socket_connect_timeout": 1.0}
        settings["retry"] = Retry(NoBackoff(), 1)
        for option in options:
            name, _, value = option.partition("=")
            settings[name] = {"true": True, "false": False}.get(value.lower(), int(value) if value.isdigit() else value)
        if password := redis_password():
            settings["password"] = password
        self._client = redis.Redis(host=host, port=int(port or 6379), **settings)
        self._project = project.encode()
        self._fields = {
            view: [
                *(mmh3.hash(f"{view}:{name}", signed=False).to_bytes(4, "little") for name in names),
                f"_ts:{view}".encode(),
            ]
            for view, names in views.items()
        }
        self._names = dict(views)

    def read(self, wanted: list[tuple[str, bytes]]) -> list[Row]:
        import redis

        pipe = self._client.pipeline(transaction=False)
        for view, key in wanted:
            pipe.hmget(key + self._project, self._fields[view])
        try:
            replies = pipe.execute()
        except redis.RedisError as error:
            raise SeawayError(f"the online store cannot be read: {error}") from error
        rows: list[Row] = []
        for (view, _), (*values, stamp) in zip(wanted, replies, strict=True):
            found = {name: value for name, value in zip(self._names[view], values, strict=True) if value is not None}
            rows.append((found, decode_timestamp(stamp) if stamp else None))
        return rows

    def close(self) -> None:
        self._client.close()
