"""Feature definitions: declared once, evaluated over a table (offline) and for one request (online).

Both evaluators give the same float32 for the same history, bit for bit, because all sums are exact:
values are counted in whole quanta (int64), so neither order nor grouping of the additions matters, and
the one division is the same float64 operation rounded once to float32.

Time semantics. Times are int64 microseconds since the epoch, UTC. A window of length w at time t with
delay d covers (t - d - w, t - d]; limits are compared at whole seconds. Events of the same second count
in the order in which they arrived (their position), so no row sees one that came after it. A column
that is a label becomes known one label delay after its event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

import numpy as np

from seaway.artifacts import record_hash
from seaway.config import duration

MICRO = 1_000_000
DAY = 86_400 * MICRO
HASH_KEY = "seaway.feature_hash"  # in the metadata of a Parquet file: the FeatureSpec.hash that its features are of


@dataclass(frozen=True)
class Request:
    """A feature of the request alone. ``op``: value, weekend (Sat, Sun: 1), hour_at_most (argument)."""

    name: str
    column: str
    op: str = "value"
    argument: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Window:
    """Count and mean of ``value`` over an entity's events in sliding windows.

    ``count`` and ``mean`` are name templates with ``{n}`` for the window's number. ``quantum`` is the
    step of the values (0.01 for money): each value is a whole multiple of it. ``include_current`` adds
    the request's own event. With ``delay`` the windows end that long before the event; a label as
    ``value`` needs a delay of at least the label's. The mean of no event is 0.
    """

    view: str
    entity: str
    key: str
    value: str
    count: str
    mean: str
    windows: tuple[str, ...] = ("1d", "7d", "30d")
    quantum: float = 1.0
    delay: str = "0d"
    include_current: bool = False
    reason_count: str = ""
    reason_mean: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(t.format(n=w[:-1]) for w in self.windows for t in (self.count, self.mean))

    @property
    def horizon(self) -> int:
        """Microseconds of history that the longest window can reach back to."""
        return micros(self.delay) + max(micros(w) for w in self.windows)


@dataclass(frozen=True)
class Latest:
    """The newest value of columns of another source as of the event; older than ``ttl``: ``default``."""

    view: str
    entity: str
    key: str
    source: str
    columns: dict[str, str]  # feature name -> column of the source
    ttl: str = "3650d"
    default: float = 0.0
    reason: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self.columns))  # a record read back may have its keys in another order


@dataclass(frozen=True)
class FeatureSpec:
    """The features of one model version; ``names`` is the order of the model's input vector."""

    version: str  # the feature service's name
    time: str
    requests: tuple[Request, ...] = ()
    windows: tuple[Window, ...] = ()
    latest: tuple[Latest, ...] = ()
    inputs: tuple[str, ...] = field(default=())  # columns that a caller sends, in order

    @property
    def names(self) -> tuple[str, ...]:
        parts = [(r.name,) for r in self.requests] + [v.names for v in (*self.windows, *self.latest)]
        return tuple(name for part in parts for name in part)

    @property
    def unread(self) -> frozenset[str]:
        """Inputs of which no feature is made: a text or no value will do as well as a number."""
        views = {name for view in (*self.windows, *self.latest) for name in (view.key, getattr(view, "value", ""))}
        return frozenset(self.inputs) - {self.time, *(request.column for request in self.requests)} - views

    @property
    def hash(self) -> str:
        """SHA-256 of the definitions: the feature-view hash that every answer carries."""
        return record_hash(asdict(self))

    def as_record(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> FeatureSpec:
        return cls(
            version=record["version"],
            time=record["time"],
            inputs=tuple(record["inputs"]),
            requests=tuple(Request(**r) for r in record["requests"]),
            windows=tuple(Window(**{**w, "windows": tuple(w["windows"])}) for w in record["windows"]),
            latest=tuple(Latest(**v) for v in record["latest"]),
        )

    def reasons(self) -> dict[str, str]:
        """Feature name -> words for a person."""
        texts = {r.name: r.reason or r.name for r in self.requests}
        for w in self.windows:
            for i, name in enumerate(w.names):
                template = w.reason_mean if i % 2 else w.reason_count
                texts[name] = template.format(n=w.windows[i // 2][:-1]) if template else name
        for v in self.latest:
            texts |= {name: v.reason or name for name in v.names}
        return texts


@cache
def micros(text: str) -> int:
    """A duration such as ``"7d"`` in microseconds."""
    return int(duration(text).total_seconds()) * MICRO


def to_quanta(values: np.ndarray, quantum: float) -> np.ndarray:
    """Values as whole numbers of quanta, int64, rounded to the nearest."""
    return np.rint(np.asarray(values, dtype=np.float64) / quantum).astype(np.int64)


def request_values(spec: FeatureSpec, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The request features for arrays of requests; the time column is int64 microseconds, UTC."""
    return {r.name: _OPS[r.op](np.asarray(columns[r.column]), r.argument) for r in spec.requests}


def _weekend(times: np.ndarray, _: float | None) -> np.ndarray:
    return ((times // DAY + 3) % 7 >= 5).astype(np.float32)  # day 0 was a Thursday


def _hour_at_most(times: np.ndarray, limit: float | None) -> np.ndarray:
    return (times % DAY // (3_600 * MICRO) <= limit).astype(np.float32)


_OPS = {
    "value": lambda values, _: values.astype(np.float32),
    "weekend": _weekend,
    "hour_at_most": _hour_at_most,
}


def event_times(times: np.ndarray) -> np.ndarray:
    """Times made unique: of rows of the same second, each later one gets one microsecond more.

    ``times``: int64 microseconds, sorted, in order of arrival. Point-in-time joins on the result
    find each event's own row, and no window is changed, since limits are compared at whole seconds.
    """
    seconds = times // MICRO
    positions = np.arange(len(times))
    first = np.searchsorted(seconds, seconds, side="left")
    return seconds * MICRO + (positions - first)


def window_columns(window: Window, n: list[np.ndarray], total: list[np.ndarray]) -> dict[str, np.ndarray]:
    columns: dict[str, np.ndarray] = {}
    for i, (count, quanta) in enumerate(zip(n, total, strict=True)):
        mean = np.where(count > 0, quanta * window.quantum / np.maximum(count, 1), 0.0)
        columns[window.names[2 * i]] = count.astype(np.float32)
        columns[window.names[2 * i + 1]] = mean.astype(np.float32)
    return columns


def window_table(window: Window, keys: np.ndarray, times: np.ndarray, values: np.ndarray) -> dict[str, np.ndarray]:
    """The window's features for every event of a table, as of that event.

    ``keys`` int64 (n,), ``times`` int64 microseconds (n,) in order of arrival, ``values`` float (n,).
    Returns float32 (n,) by feature name, in the table's order. O(n log n).
    """
    seconds = times // MICRO
    order = np.lexsort((seconds, keys))  # stable: ties keep their order of arrival
    key, second = keys[order], seconds[order]
    quanta = np.concatenate(([0], np.cumsum(to_quanta(values, window.quantum)[order])))
    # one sorted axis for all entities: each entity gets a stretch longer than any window
    span = int(second.max() - second.min()) + 2 * (window.horizon // MICRO) + 2 if len(second) else 1
    rank = np.cumsum(np.concatenate(([0], (key[1:] != key[:-1]).astype(np.int64)))) if len(key) else key
    axis = rank * span + (second - second.min() if len(second) else second)
    position = np.arange(len(key))
    delay = micros(window.delay) // MICRO
    if delay == 0:
        end = position + 1 if window.include_current else position
    else:
        end = np.searchsorted(axis, axis - delay, side="right")
    n, total = [], []
    for length in window.windows:
        start = np.searchsorted(axis, axis - delay - micros(length) // MICRO, side="right")
        n.append(end - start)
        total.append(quanta[end] - quanta[start])
    inverse = np.empty_like(position)
    inverse[order] = position
    return {name: column[inverse] for name, column in window_columns(window, n, total).items()}


def window_now(
    window: Window,
    times: np.ndarray,
    quanta: np.ndarray,
    now: int,
    current: float | None = None,
) -> dict[str, np.ndarray]:
    """The window's features for one request, from the entity's history.

    ``times`` int64 microseconds and ``quanta`` int64, both (n,), any order: the events that arrived
    before this request; ``now`` the request's time in microseconds; ``current`` its own value, used
    with ``include_current``. Returns float32 (1,) by feature name.
    """
    seconds, second = times // MICRO, now // MICRO
    delay = micros(window.delay) // MICRO
    known = seconds <= second - delay
    n, total = [], []
    for length in window.windows:
        inside = known & (seconds > second - delay - micros(length) // MICRO)
        count, amount = int(inside.sum()), int(quanta[inside].sum())
        if window.include_current and delay == 0:
            count, amount = count + 1, amount + int(to_quanta(np.array([current]), window.quantum)[0])
        n.append(np.array([count]))
        total.append(np.array([amount]))
    return window_columns(window, n, total)


def vector(spec: FeatureSpec, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Feature columns stacked in the spec's order: float32 (rows, features)."""
    return np.stack([np.asarray(columns[name], dtype=np.float32) for name in spec.names], axis=1)
