"""Step: valid events -> features as of each event, and one table per feature view."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from seaway.artifacts import atomic_write
from seaway.config import Workload
from seaway.errors import SeawayError
from seaway.features import MICRO, FeatureSpec, Latest, event_times, micros, request_values, window_table
from seaway.online import INPUT_PREFIX


def features(workload: Workload, spec: FeatureSpec, valid: Path, out: Path) -> dict[str, Any]:
    """Compute the spec's features for every event of the main source.

    ``valid`` holds ``<source>.parquet`` as the validation step writes it: typed, sorted by (time, id).
    Writes ``features.parquet`` (ids, event_timestamp, keys, time, label, label_known_at, request and
    window features as float32) and ``<view>.parquet`` per view (key, event_timestamp, created_timestamp,
    features). An input column whose name is also a feature's keeps its own values in ``input__<name>``.
    created_timestamp is when the row's content was known. Raises SeawayError for a definition that does
    not fit the data, or that would let a label into a row before it was known.
    """
    began = time.perf_counter()
    _check(workload, spec)
    out.mkdir(parents=True, exist_ok=True)
    events = _read(valid, workload.source)
    times = _micros(events, spec.time)
    moments = event_times(times)
    keys = {window.key: _keys(events, window.key, workload.source) for window in spec.windows}
    values = {window.value: _values(events, window.value, workload.source) for window in spec.windows}
    with ThreadPoolExecutor(max_workers=2) as pool:  # numpy sorts and searches outside the lock
        windows = list(pool.map(lambda w: window_table(w, keys[w.key], times, values[w.value]), spec.windows))
    columns = {name: times if name == spec.time else events[name].to_numpy() for name in _request_columns(spec)}
    computed = request_values(spec, columns)
    for table in windows:
        computed |= table
    stamp = pl.Series("event_timestamp", moments).cast(pl.Datetime("us"))
    _write(_main_table(workload, spec, events, stamp, computed), out / "features.parquet")
    for window, table in zip(spec.windows, windows, strict=True):
        view = [events[window.key], stamp, stamp.alias("created_timestamp")]
        _write(pl.DataFrame(view + [pl.Series(k, v) for k, v in table.items()]), out / f"{window.view}.parquet")
    for latest in spec.latest:
        _write(_latest_table(workload, latest, valid), out / f"{latest.view}.parquet")
    return {
        "rows": events.height,
        "features": len(spec.names),
        "views": [v.view for v in (*spec.windows, *spec.latest)],
        "feature_hash": spec.hash,
        "first_time": str(events[spec.time].min()) if events.height else None,
        "last_time": str(events[spec.time].max()) if events.height else None,
        "seconds": round(time.perf_counter() - began, 3),
    }


def _check(workload: Workload, spec: FeatureSpec) -> None:
    source, label = workload.sources[workload.source], workload.label
    if spec.time != source.time:
        raise SeawayError(
            f"the features' time column is {spec.time!r}, but source {workload.source!r} has {source.time!r}"
        )
    for window in spec.windows:
        if window.value == label.column and micros(window.delay) < micros(label.delay):
            raise SeawayError(
                f"view {window.view!r} uses the label {label.column!r} after {window.delay}, but it is known only "
                f"after {label.delay}: set the window's delay to at least the label's"
            )
        if window.include_current and micros(window.delay) == 0 and window.value not in spec.inputs:
            raise SeawayError(f"view {window.view!r} counts the current event, so {window.value!r} must be an input")
    for latest in spec.latest:
        if latest.source not in workload.sources:
            raise SeawayError(f"view {latest.view!r} reads source {latest.source!r}, which the workload does not have")


def _read(valid: Path, source: str) -> pl.DataFrame:
    file = valid / f"{source}.parquet"
    if not file.exists():
        raise SeawayError(f"{file} does not exist: run the validation step first")
    return pl.read_parquet(file)


def _request_columns(spec: FeatureSpec) -> set[str]:
    return {request.column for request in spec.requests}


def _micros(events: pl.DataFrame, column: str) -> np.ndarray:
    times = events[column].cast(pl.Datetime("us")).to_physical().to_numpy()
    if len(times) and (np.diff(times) < 0).any():
        raise SeawayError(f"events must be sorted by {column!r}")
    return times


def _keys(events: pl.DataFrame, column: str, source: str) -> np.ndarray:
    if column not in events.columns or not events[column].dtype.is_integer():
        raise SeawayError(f"entity key {column!r} must be an integer column of source {source!r}")
    return events[column].cast(pl.Int64).to_numpy()


def _values(events: pl.DataFrame, column: str, source: str) -> np.ndarray:
    if column not in events.columns or not events[column].dtype.is_numeric():
        raise SeawayError(f"window value {column!r} must be a numeric column of source {source!r}")
    if events[column].null_count():
        raise SeawayError(f"window value {column!r} of source {source!r} has empty rows: it cannot be summed")
    return events[column].to_numpy()


def _main_table(
    workload: Workload, spec: FeatureSpec, events: pl.DataFrame, stamp: pl.Series, computed: dict[str, np.ndarray]
) -> pl.DataFrame:
    source, label = workload.sources[workload.source], workload.label
    raw = [source.id, *workload.entities.values(), source.time, label.column, *spec.inputs]
    raw += [window.value for window in spec.windows]
    table: dict[str, pl.Series] = {}
    for name in dict.fromkeys(column for column in raw if column and column in events.columns):
        table[f"{INPUT_PREFIX}{name}" if name in computed else name] = events[name]
    table |= {"event_timestamp": stamp}
    table |= {name: pl.Series(name, values) for name, values in computed.items()}
    delay = pl.duration(microseconds=micros(label.delay))
    return pl.DataFrame(table).with_columns((pl.col(source.time) + delay).alias("label_known_at"))


def _latest_table(workload: Workload, latest: Latest, valid: Path) -> pl.DataFrame:
    """Rows of another source, visible from the first whole second at which they were known."""
    column = workload.sources[latest.source].time
    rows = _read(valid, latest.source)
    _keys(rows, latest.key, latest.source)
    known = pl.col(column).cast(pl.Datetime("us"))
    second = (known.to_physical() + MICRO - 1) // MICRO * MICRO
    return rows.select(
        pl.col(latest.key).cast(pl.Int64),
        second.cast(pl.Datetime("us")).alias("event_timestamp"),
        known.alias("created_timestamp"),
        *[pl.col(source).cast(pl.Float32).alias(name) for name, source in latest.columns.items()],
    )


def _write(frame: pl.DataFrame, file: Path) -> None:
    with atomic_write(file) as temporary:
        frame.write_parquet(temporary, compression="lz4")
