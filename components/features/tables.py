"""The tables that the feature step writes, and what must hold for them: shared by all engines."""

from __future__ import annotations

import numpy as np
import polars as pl

from seaway.config import Workload
from seaway.errors import SeawayError
from seaway.features import MICRO, FeatureSpec, Latest, micros
from seaway.online import INPUT_PREFIX


def check(workload: Workload, spec: FeatureSpec) -> None:
    """SeawayError for definitions that do not fit the workload, or let a label in before it was known."""
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


def request_columns(spec: FeatureSpec, events: pl.DataFrame, times: np.ndarray) -> dict[str, np.ndarray]:
    """What the request features are computed from."""
    names = {request.column for request in spec.requests}
    return {name: times if name == spec.time else events[name].to_numpy() for name in names}


def times_of(events: pl.DataFrame, column: str) -> np.ndarray:
    """Sorted times as int64 microseconds; SeawayError where they are not sorted."""
    times = events[column].cast(pl.Datetime("us")).to_physical().to_numpy()
    if len(times) and (np.diff(times) < 0).any():
        raise SeawayError(f"events must be sorted by {column!r}")
    return times


def keys_of(events: pl.DataFrame, column: str, source: str) -> np.ndarray:
    """An entity's keys as int64; SeawayError unless they are whole numbers."""
    if column not in events.columns or not events[column].dtype.is_integer():
        raise SeawayError(f"entity key {column!r} must be an integer column of source {source!r}")
    return events[column].cast(pl.Int64).to_numpy()


def values_of(events: pl.DataFrame, column: str, source: str) -> np.ndarray:
    """A window's values; SeawayError unless all are numbers."""
    if column not in events.columns or not events[column].dtype.is_numeric():
        raise SeawayError(f"window value {column!r} must be a numeric column of source {source!r}")
    if events[column].null_count():
        raise SeawayError(f"window value {column!r} of source {source!r} has empty rows: it cannot be summed")
    return events[column].to_numpy()


def main_table(
    workload: Workload, spec: FeatureSpec, events: pl.DataFrame, stamp: pl.Series, computed: dict[str, np.ndarray]
) -> pl.DataFrame:
    """ids, keys, time, label, inputs, event_timestamp, the computed features, label_known_at."""
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


def view_table(key: pl.Series, stamp: pl.Series, values: dict[str, np.ndarray]) -> pl.DataFrame:
    """A Window view's rows: key, event_timestamp, created_timestamp, features."""
    columns = [pl.Series(name, column) for name, column in values.items()]
    return pl.DataFrame([key, stamp, stamp.alias("created_timestamp"), *columns])


def latest_table(workload: Workload, latest: Latest, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of another source, visible from the first whole second at which they were known."""
    column = workload.sources[latest.source].time
    keys_of(rows, latest.key, latest.source)
    known = pl.col(column).cast(pl.Datetime("us"))
    second = (known.to_physical() + MICRO - 1) // MICRO * MICRO
    return rows.select(
        pl.col(latest.key).cast(pl.Int64),
        second.cast(pl.Datetime("us")).alias("event_timestamp"),
        known.alias("created_timestamp"),
        *[pl.col(source).cast(pl.Float32).alias(name) for name, source in latest.columns.items()],
    )
