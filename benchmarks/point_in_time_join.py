"""The training set's join: through Feast with the as-of store, against a bare Polars as-of join, and Feast's own store.

``python -m benchmarks.point_in_time_join [--scale published] [--rounds 5] [--own-rows 2000]``. Both sides read
the same Parquet files, alternate in one process, and must give the same rows. The bare join leaves out the
on-demand features that Feast also computes. Feast's own store (dask) is quadratic per key, so it gets few rows.
Imports are not counted.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl

from components.features.step import features
from seaway.config import Config, load
from seaway.feast_store import apply, open_feature_store
from seaway.hooks import resolve

WEEK = timedelta(days=7)


def prepared(config: Config, spec: Any, folder: Path) -> Path:
    """Generated events and the feature step's files."""
    workload = config.workload
    source = workload.sources[workload.source]
    generate = resolve(source.generator, config.root)
    generate(workload.scales[config.scale], folder / f"{workload.source}.parquet")
    summary = features(workload, spec, folder, folder / "features")
    print(f"feature step: {summary['rows']:,} rows, {summary['features']} features in {summary['seconds']:.2f} s")
    return folder / "features"


def bare(spec: Any, folder: Path, rows: pl.DataFrame) -> pl.DataFrame:
    """What one would write without a feature store."""
    for window in spec.windows:
        view = pl.read_parquet(folder / f"{window.view}.parquet").drop("created_timestamp")
        rows = rows.join_asof(view, on="event_timestamp", by=window.key, check_sortedness=False)
    return rows.select(name for window in spec.windows for name in window.names)


def through_feast(store: Any, spec: Any, rows: pl.DataFrame) -> pl.DataFrame:
    job = store.get_historical_features(
        entity_df=rows.to_pandas(),
        features=store.get_feature_service(spec.version),
        full_feature_names=True,
        filter_by_created_timestamp=True,
    )
    table = pl.from_arrow(job.to_arrow())
    return table.select(pl.col(f"{w.view}__{name}").alias(name) for w in spec.windows for name in w.names)


def through_own_store(store: Any, spec: Any, rows: pl.DataFrame) -> pl.DataFrame:
    refs = [f"{w.view}:{name}" for w in spec.windows for name in w.names]
    frame = store.get_historical_features(entity_df=rows.to_pandas(), features=refs).to_df()
    return pl.from_pandas(frame.sort_values("event_timestamp")).select(n for w in spec.windows for n in w.names)


def timed(call: Callable[[], pl.DataFrame]) -> tuple[float, pl.DataFrame]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="published")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--own-rows", type=int, default=2000, help="rows for Feast's own store; 0: leave it out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = load(overrides={"home": str(folder / "home"), "scale": options.scale})
        spec = resolve(config.workload.features, config.root)
        files = prepared(config, spec, folder)
        online = {"type": "sqlite", "path": str(folder / "online.db")}
        store = open_feature_store(config, files, folder / "registry.db", online)
        apply(store, config)
        inputs = [r.column for r in spec.requests]
        keys = [w.key for w in spec.windows]
        table = pl.read_parquet(files / "features.parquet")
        events = table.select("event_timestamp", *dict.fromkeys([*keys, *inputs]))
        last = events[spec.time].max()
        cases = {
            "one training week": events.filter(pl.col(spec.time).is_between(last - 5 * WEEK, last - 4 * WEEK)),
            "all splits (8 weeks)": events.filter(pl.col(spec.time) > last - 8 * WEEK),
            "all events": events,
        }
        for case, rows in cases.items():
            seconds: dict[str, list[float]] = {"Feast, as-of store": [], "bare Polars": []}
            for _ in range(options.rounds):
                took, ours = timed(lambda rows=rows: through_feast(store, spec, rows))
                seconds["Feast, as-of store"].append(took)
                took, plain = timed(lambda rows=rows: bare(spec, files, rows))
                seconds["bare Polars"].append(took)
                if not ours.equals(plain):
                    raise SystemExit(f"{case}: the rows differ")
            medians = {name: statistics.median(values) for name, values in seconds.items()}
            ratio = medians["Feast, as-of store"] / medians["bare Polars"]
            print(f"{case}: {rows.height:,} rows, equal row for row")
            print("  " + ", ".join(f"{name} {value:.2f} s" for name, value in medians.items()) + f": {ratio:.2f}x")
        if options.own_rows:
            own_store(config, spec, files, folder, events, options.own_rows)


def own_store(config: Config, spec: Any, files: Path, folder: Path, events: pl.DataFrame, limit: int) -> None:
    from feast import FeatureStore

    from seaway.feast_store import definitions

    rows = events.filter(pl.col("event_timestamp") > events["event_timestamp"].max() - 5 * WEEK).head(limit)
    settings = open_feature_store(config, files, folder / "own.db", {"type": "sqlite", "path": folder / "o.db"}).config
    settings = settings.model_copy(update={"offline_config": {"type": "dask"}, "repo_path": files})
    settings._offline_store = None
    store = FeatureStore(config=settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        store.apply(definitions(config))
    ours_store = open_feature_store(config, files, folder / "registry.db", {"type": "sqlite", "path": folder / "o.db"})
    theirs_s, theirs = timed(lambda: through_own_store(store, spec, rows))
    ours_s, ours = timed(lambda: through_feast(ours_store, spec, rows))
    same = "equal row for row" if ours.equals(theirs.select(ours.columns).cast(ours.schema)) else "ROWS DIFFER"
    print(f"Feast's own store: {rows.height:,} rows, {same}")
    print(f"  as-of store {ours_s:.2f} s, Feast's dask store {theirs_s:.2f} s: {theirs_s / ours_s:.1f}x faster")


if __name__ == "__main__":
    main()
