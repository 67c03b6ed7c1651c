"""Step: valid events -> features as of each event, and one table per feature view."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl

from components.features.tables import (
    check,
    keys_of,
    latest_table,
    main_table,
    request_columns,
    times_of,
    values_of,
    view_table,
)
from components.ray.spread import in_parts
from seaway.artifacts import atomic_write
from seaway.config import Config, Workload
from seaway.errors import SeawayError
from seaway.features import HASH_KEY, FeatureSpec, event_times, request_values, window_table


def features(
    workload: Workload, spec: FeatureSpec, valid: Path, out: Path, config: Config | None = None
) -> dict[str, Any]:
    """Compute the spec's features for every event of the main source.

    ``valid`` holds ``<source>.parquet`` as the validation step writes it: typed, sorted by (time, id).
    Writes ``features.parquet`` (ids, event_timestamp, keys, time, label, label_known_at, request and
    window features as float32) and ``<view>.parquet`` per view (key, event_timestamp, created_timestamp,
    features). An input column whose name is also a feature's keeps its own values in ``input__<name>``.
    created_timestamp is when the row's content was known. With a ``config`` whose ``data.engine`` is not
    memory, the tables are folders of days (seaway.parts), with the same rows. Raises SeawayError for a
    definition that does not fit the data, or that would let a label into a row before it was known.
    """
    began = time.perf_counter()
    check(workload, spec)
    out.mkdir(parents=True, exist_ok=True)
    if config is not None and in_parts(config):
        from components.features.by_day import features_by_day

        made = features_by_day(config, spec, valid, out)
    else:
        made = _at_once(workload, spec, valid, out)
    return {
        "rows": made.pop("rows"),
        "features": len(spec.names),
        "views": [v.view for v in (*spec.windows, *spec.latest)],
        "feature_hash": spec.hash,
        **made,
        "seconds": round(time.perf_counter() - began, 3),
    }


def _at_once(workload: Workload, spec: FeatureSpec, valid: Path, out: Path) -> dict[str, Any]:
    events = _read(valid, workload.source)
    times = times_of(events, spec.time)
    keys = {window.key: keys_of(events, window.key, workload.source) for window in spec.windows}
    values = {window.value: values_of(events, window.value, workload.source) for window in spec.windows}
    with ThreadPoolExecutor(max_workers=2) as pool:  # numpy sorts and searches outside the lock
        windows = list(pool.map(lambda w: window_table(w, keys[w.key], times, values[w.value]), spec.windows))
    computed = request_values(spec, request_columns(spec, events, times))
    for table in windows:
        computed |= table
    stamp = pl.Series("event_timestamp", event_times(times)).cast(pl.Datetime("us"))
    _write(main_table(workload, spec, events, stamp, computed), out / "features.parquet", {HASH_KEY: spec.hash})
    for window, table in zip(spec.windows, windows, strict=True):
        _write(view_table(events[window.key], stamp, table), out / f"{window.view}.parquet")
    for latest in spec.latest:
        _write(latest_table(workload, latest, _read(valid, latest.source)), out / f"{latest.view}.parquet")
    edges = [str(edge) if events.height else None for edge in (events[spec.time].min(), events[spec.time].max())]
    return {"rows": events.height, "first_time": edges[0], "last_time": edges[1]}


def _read(valid: Path, source: str) -> pl.DataFrame:
    file = valid / f"{source}.parquet"
    if not file.exists():
        raise SeawayError(f"{file} does not exist: run the validation step first")
    return pl.read_parquet(file)


def _write(frame: pl.DataFrame, file: Path, metadata: dict[str, str] | None = None) -> None:
    with atomic_write(file) as temporary:
        frame.write_parquet(temporary, compression="lz4", metadata=metadata)
