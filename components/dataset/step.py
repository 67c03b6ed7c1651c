"""Step: features by event -> the data sets of training, sweep, evaluation and replay, joined by Feast."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from components.dataset.join import joined, open_store, raw_columns
from components.dataset.periods import Period, no_event, splits
from components.ray.spread import in_parts
from seaway.artifacts import atomic_write
from seaway.config import Config, Workload
from seaway.errors import SeawayError
from seaway.features import FeatureSpec


def dataset(config: Config, spec: FeatureSpec, features: Path, out: Path) -> dict[str, Any]:
    """Apply the feature repository and write ``<split>.parquet`` for each split of the workload.

    ``features``: the feature step's folder. Each table has id, event_timestamp, time, entity keys, inputs,
    label, label_known_at and all features of the spec as float32, in order of the events. Features come
    from Feast's point-in-time join, only such as were known at the event. Unless ``data.engine`` is memory,
    tables are folders of days (seaway.parts), here as in ``features``. Raises SeawayError when the
    data does not reach far enough back for the splits.
    """
    if in_parts(config):
        from components.dataset.by_day import dataset_by_day

        return dataset_by_day(config, spec, features, out)
    events = pl.scan_parquet(features / "features.parquet")
    periods = splits(config.workload, _end(config.workload, events))
    rows, seconds = _joined(config, spec, features, events, periods)
    out.mkdir(parents=True, exist_ok=True)
    summary: dict[str, Any] = {"join_seconds": round(seconds, 3), "feature_hash": spec.hash}
    column, label = spec.time, config.workload.label.column
    for name, (start, end) in periods.items():
        part = rows.filter(pl.col(column).is_between(start, end, closed="left"))
        if part.is_empty():
            raise no_event(name, (start, end))
        with atomic_write(out / f"{name}.parquet") as temporary:
            part.write_parquet(temporary)
        positives = int(part[label].sum())
        summary[name] = {"rows": part.height, "positives": positives, "start": str(start), "end": str(end)}
    return summary


def _end(workload: Workload, events: pl.LazyFrame) -> datetime:
    last = events.select(pl.col(workload.sources[workload.source].time).max()).collect().item()
    if last is None:
        raise SeawayError("there are no events to make a data set from")
    return datetime(last.year, last.month, last.day) + timedelta(days=1)


def _joined(
    config: Config, spec: FeatureSpec, features: Path, events: pl.LazyFrame, periods: dict[str, Period]
) -> tuple[pl.DataFrame, float]:
    """All events of the splits with Feast's features (one join for all: the splits overlap), and its seconds."""
    from seaway.feast_store import apply

    first, last = min(start for start, _ in periods.values()), max(end for _, end in periods.values())
    window = pl.col(spec.time).is_between(first, last, closed="left")
    rows = events.filter(window).select(raw_columns(spec, events)).collect()
    if rows.is_empty():
        raise SeawayError("there are no events to make a data set from")
    store = open_store(config, features)
    apply(store, config)
    began = time.perf_counter()
    return joined(store, spec, rows), time.perf_counter() - began
