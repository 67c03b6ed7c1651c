"""Step: features by event -> the data sets of training, sweep, evaluation and replay, joined by Feast."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from seaway.artifacts import atomic_write
from seaway.config import Config, Workload, duration
from seaway.errors import SeawayError
from seaway.features import FeatureSpec
from seaway.online import INPUT_PREFIX

Period = tuple[datetime, datetime]  # from, until (not included)


def dataset(config: Config, spec: FeatureSpec, features: Path, out: Path) -> dict[str, Any]:
    """Apply the feature repository and write ``<split>.parquet`` for each split of the workload.

    ``features``: the feature step's folder. Each file has id, event_timestamp, time, entity keys, inputs,
    label, label_known_at and all features of the spec as float32, in order of the events. Features come
    from Feast's point-in-time join, only such as were known at the event. Raises SeawayError when the
    data does not reach far enough back for the splits.
    """
    events = pl.scan_parquet(features / "features.parquet")
    periods = splits(config.workload, _end(config.workload, events))
    rows, seconds = _joined(config, spec, features, events, periods)
    out.mkdir(parents=True, exist_ok=True)
    summary: dict[str, Any] = {"join_seconds": round(seconds, 3), "feature_hash": spec.hash}
    column, label = spec.time, config.workload.label.column
    for name, (start, end) in periods.items():
        part = rows.filter(pl.col(column).is_between(start, end, closed="left"))
        if part.is_empty():
            raise SeawayError(
                f"split {name!r} ({start:%Y-%m-%d} to {end:%Y-%m-%d}) has no event: shorten `split` in the workload "
                "file, or give data of a longer time"
            )
        with atomic_write(out / f"{name}.parquet") as temporary:
            part.write_parquet(temporary)
        positives = int(part[label].sum())
        summary[name] = {"rows": part.height, "positives": positives, "start": str(start), "end": str(end)}
    return summary


def splits(workload: Workload, end: datetime) -> dict[str, Period]:
    """The period of each split, counted back from ``end``, the midnight after the last event.

    sweep_train | delay | valid and train | delay | test | replay. A period ends one label delay before
    the next one starts, so that all its labels are known by then; valid is the last part of train's span.
    """
    lengths = {name: duration(getattr(workload.split, name)) for name in ("train", "valid", "test", "replay")}
    delay = duration(workload.label.delay)
    tested = end - lengths["replay"] - lengths["test"]
    known = tested - delay
    valid = known - lengths["valid"]
    return {
        "sweep_train": (valid - delay - lengths["train"], valid - delay),
        "valid": (valid, known),
        "train": (known - lengths["train"], known),
        "test": (tested, tested + lengths["test"]),
        "replay": (end - lengths["replay"], end),
    }


def _end(workload: Workload, events: pl.LazyFrame) -> datetime:
    last = events.select(pl.col(workload.sources[workload.source].time).max()).collect().item()
    if last is None:
        raise SeawayError("there are no events to make a data set from")
    return datetime(last.year, last.month, last.day) + timedelta(days=1)


def _joined(
    config: Config, spec: FeatureSpec, features: Path, events: pl.LazyFrame, periods: dict[str, Period]
) -> tuple[pl.DataFrame, float]:
    """All events of the splits with Feast's features (one join for all: the splits overlap), and its seconds."""
    from seaway.feast_store import apply, open_feature_store

    first, last = min(start for start, _ in periods.values()), max(end for _, end in periods.values())
    window = pl.col(spec.time).is_between(first, last, closed="left")
    raw = [c for c in events.collect_schema().names() if c not in spec.names]
    rows = events.filter(window).select(raw).collect()
    if rows.is_empty():
        raise SeawayError("there are no events to make a data set from")
    home = config.home / "feast"
    store = open_feature_store(config, features, home / "registry.db", {"type": "sqlite", "path": home / "online.db"})
    apply(store, config)
    from seaway.feast_views import joined_names  # imports Feast, which open_feature_store does in less time

    began = time.perf_counter()
    job = store.get_historical_features(
        entity_df=_entity_rows(spec, rows),
        features=store.get_feature_service(spec.version),
        full_feature_names=True,  # an input may have a feature's name
        filter_by_created_timestamp=True,
    )
    table = pl.from_arrow(job.to_arrow())
    joined = joined_names(spec)
    missing = [name for name in spec.names if joined[name] not in table.columns]
    if missing:
        raise SeawayError(f"the feature service {spec.version!r} does not give {', '.join(missing)}")
    computed = table.select(pl.col(joined[name]).cast(pl.Float32).alias(name) for name in spec.names)
    defaults = {name: latest.default for latest in spec.latest for name in latest.names}
    computed = computed.with_columns(pl.col(name).fill_null(value) for name, value in defaults.items())
    return rows.hstack(computed), time.perf_counter() - began


def _entity_rows(spec: FeatureSpec, rows: pl.DataFrame) -> Any:
    """Keys, the moment of each event, and the request's inputs under their own names, for Feast."""
    keys = dict.fromkeys(view.key for view in (*spec.windows, *spec.latest))
    columns = {"event_timestamp": pl.col("event_timestamp")} | {key: pl.col(key) for key in keys}
    for name in spec.inputs:
        if name not in columns:
            stored = f"{INPUT_PREFIX}{name}"
            columns[name] = pl.col(stored if stored in rows.columns else name)
    for request in spec.requests:
        columns.setdefault(request.column, pl.col(request.column))
    return rows.select(expression.alias(name) for name, expression in columns.items()).to_pandas()
