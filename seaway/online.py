"""Features of one request from the online store, in the model server's process, without Feast.

The store is written through Feast and keeps Feast's own format (entity keys of version 3, one value
message a feature), so every Feast tool reads it too; this module only reads. Feast cannot be imported
beside the model server's pinned libraries, and a hop to its server costs ten times the look-up.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from seaway.features import MICRO, FeatureSpec, Latest, Window, micros, request_values, window_now
from seaway.online_format import decode_value, entity_key
from seaway.online_stores import open_store

INPUT_PREFIX = "input__"  # a data set's column with the raw input, where a feature has the input's name


def history_features(window: Window) -> tuple[str, str]:
    """Names of the two features of a window's history view: event times, and values in quanta."""
    return f"{window.view}_event_times", f"{window.view}_event_quanta"


def history_view(window: Window) -> str:
    return f"{window.view}_history"


def project_name(workload: str) -> str:
    """The Feast project of a workload: its name in letters, digits and underscores."""
    return re.sub(r"\W", "_", workload)


def parse_time(value: str | int | datetime) -> int:
    """A request's time as int64 microseconds since the epoch, UTC.

    ISO 8601 text or a datetime (without an offset: UTC) or whole microseconds; ValueError for anything else.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f"{value!r} is not a time; write ISO 8601, such as 2018-09-30T23:59:57") from None
    if not isinstance(value, datetime):
        raise ValueError(f"{value!r} is not a time; write ISO 8601, such as 2018-09-30T23:59:57")
    moment = value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * MICRO + delta.microseconds


def request_of(spec: FeatureSpec, row: Mapping[str, Any]) -> dict[str, Any]:
    """The request (inputs by name) that a row of a data set came from."""
    return {name: row.get(f"{INPUT_PREFIX}{name}", row.get(name)) for name in spec.inputs}


class OnlineReader:
    """Looks features up for single requests; safe to share between threads and to fork.

    ``store``: ``{"type": "sqlite", "path": file}`` or ``{"type": "redis", "connection": "host:port"}``;
    ``project``: the Feast project. Each read sees all that other processes have committed before it.
    Inputs of which no feature is made are not looked at: they are there to route rows to slices.
    """

    def __init__(self, store: Mapping[str, Any], project: str, spec: FeatureSpec):
        self.spec, self._read = spec, [name for name in spec.inputs if name not in spec.unread]
        self._names = spec.names
        self._keys = {view.key for view in (*spec.windows, *spec.latest)}
        views = {history_view(w): history_features(w) for w in spec.windows} | {v.view: v.names for v in spec.latest}
        self._store = open_store(store, project, views)

    def features(self, request: Mapping[str, Any]) -> np.ndarray:
        """float32 (features,) in the spec's order for a request with all of ``spec.inputs``.

        An unknown entity has an empty history. ValueError names the input that is missing or malformed.
        """
        now, numbers = self._parse(request)
        columns = {name: np.array([value]) for name, value in numbers.items()}
        values = {name: float(v[0]) for name, v in request_values(self.spec, columns).items()}
        rows = self._store.read([*self._window_keys(numbers), *self._latest_keys(numbers)])
        for window, (found, _) in zip(self.spec.windows, rows, strict=False):
            times, quanta = (_history(found.get(name)) for name in history_features(window))
            table = window_now(window, times, quanta, now, numbers.get(window.value))
            values |= {name: float(column[0]) for name, column in table.items()}
        for latest, (found, stamp) in zip(self.spec.latest, rows[len(self.spec.windows) :], strict=True):
            values |= _latest(latest, found, stamp, now)
        return np.array([values[name] for name in self._names], dtype=np.float32)

    def close(self) -> None:
        self._store.close()

    def _window_keys(self, numbers: Mapping[str, Any]) -> list[tuple[str, bytes]]:
        return [(history_view(w), entity_key(w.key, numbers[w.key])) for w in self.spec.windows]

    def _latest_keys(self, numbers: Mapping[str, Any]) -> list[tuple[str, bytes]]:
        return [(v.view, entity_key(v.key, numbers[v.key])) for v in self.spec.latest]

    def _parse(self, request: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        numbers: dict[str, Any] = {}
        for name in self._read:
            if request.get(name) is None:
                raise ValueError(f"input {name!r} is missing")
            if name == self.spec.time:
                numbers[name] = parse_time(request[name])
            else:
                numbers[name] = _number(name, request[name], whole=name in self._keys)
        return numbers[self.spec.time], numbers


def _number(name: str, value: Any, whole: bool) -> float | int:
    if isinstance(value, (bool, str, bytes)):
        raise ValueError(f"input {name!r} must be a number, not {value!r}")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"input {name!r} must be a number, not {value!r}") from None
    if not math.isfinite(number):
        raise ValueError(f"input {name!r} must be finite, not {value!r}")
    if not whole:
        return number
    if number != int(number) or not -(2**63) <= int(value) < 2**63:
        raise ValueError(f"input {name!r} must be a whole number, not {value!r}")
    return int(value)


_EMPTY = np.empty(0, dtype=np.int64)


def _history(blob: bytes | None) -> np.ndarray:
    values = decode_value(blob) if blob else None
    return _EMPTY if values is None else values


def _latest(latest: Latest, found: Mapping[str, bytes], stamp: int | None, now: int) -> dict[str, float]:
    """Values no older than the ttl at the request's second, as the point-in-time join sees them."""
    fresh = stamp is not None and now // MICRO * MICRO - stamp <= micros(latest.ttl)
    values = {name: decode_value(found[name]) if fresh and found.get(name) else None for name in latest.names}
    return {name: latest.default if value is None else float(value) for name, value in values.items()}
