"""Features in parts: a day at a time, from the events of the days that its windows reach; unchanged days taken over."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from components.features.tables import (
    keys_of,
    latest_table,
    main_table,
    request_columns,
    times_of,
    values_of,
    view_table,
)
from components.ray.spread import shelf_of, spread, workers
from seaway import parts
from seaway.closure import code_of
from seaway.config import Config, Workload
from seaway.day_windows import Events, reach, window_days
from seaway.errors import SeawayError
from seaway.features import DAY, HASH_KEY, FeatureSpec, Window, event_times, request_values
from seaway.shelf import Shelf

MAIN = "features"
Load = Callable[[range, bool], Events | None]


def features_by_day(config: Config, spec: FeatureSpec, valid: Path, out: Path) -> dict[str, Any]:
    """As ``step.features``, with every table a folder of days; ``valid`` has such folders too.

    A day is computed again when anything changed that it was made of: the definitions, code, or the events of its own
    day or of those that a window reaches.
    """
    workload, source = config.workload, config.workload.source
    events = parts.days(valid / f"{source}.parquet")
    if not events:
        raise SeawayError(f"source {source!r} has no events: there is nothing to compute features of")
    shelf = shelf_of(config, "features")
    keys = _day_keys(workload, spec, events, shelf)
    folders = {table: out / f"{table}.parquet" for table in (MAIN, *(window.view for window in spec.windows))}
    missing = []
    for day in events:
        if not shelf.take_all({f"{keys[day]}-{table}": parts.part(folder, day) for table, folder in folders.items()}):
            missing.append(day)
    tasks = [
        {"workload": workload, "spec": spec.as_record(), "events": valid / f"{source}.parquet", "out": out, "days": run}
        for run in _runs(missing, max([1, *map(reach, spec.windows)]))
    ]
    for task, _ in zip(tasks, spread(config, compute, tasks, threads=workers()), strict=True):
        for day in task["days"]:
            for table, folder in folders.items():
                shelf.keep(f"{keys[day]}-{table}", parts.part(folder, day))
    for latest in spec.latest:
        _latest(workload, spec, latest, valid, out, shelf)
    rows = sum(map(shelf.rows, events.values()))
    shelf.close()
    first, last = (events[edge] for edge in (min(events), max(events)))
    return {
        "rows": rows,
        "first_time": str(pl.read_parquet(first, columns=[spec.time])[spec.time].min()),
        "last_time": str(pl.read_parquet(last, columns=[spec.time])[spec.time].max()),
        "days": len(events),
        "days_computed": len(missing),
    }


def _day_keys(workload: Workload, spec: FeatureSpec, events: dict[date, Path], shelf: Shelf) -> dict[date, str]:
    """A key a day, of all that the day's features are made of."""
    about = [
        workload.sources[workload.source].model_dump(mode="json", exclude={"path", "generator"}),
        workload.entities,
    ]
    about += [workload.label.model_dump(mode="json"), spec.hash, code_of("components.features.by_day")]
    back = max([0, *map(reach, spec.windows)])
    digests = {parts.number_of(day): shelf.digest(file) for day, file in events.items()}
    keys = {}
    for day in events:
        number = parts.number_of(day)
        seen = [(n - number, digests[n]) for n in range(number - back, number + 1) if n in digests]
        keys[day] = shelf.key("features", about, day.isoformat(), seen)
    return keys


def _runs(days: list[date], back: int) -> list[list[date]]:
    """Stretches to compute in one go, one a worker: each reads ``back`` days before its own, so none is short."""
    runs: list[list[date]] = []
    for day in days:
        if runs and (day - runs[-1][-1]).days <= back:
            runs[-1].append(day)
        else:
            runs.append([day])
    pieces = []
    for run in runs:
        size = max(-(-len(run) // workers()), min(back, len(run)))
        pieces += [run[i : i + size] for i in range(0, len(run), size)]
    return pieces


def compute(task: dict[str, Any]) -> None:
    """Write all tables of the task's days. ``task``: workload, spec (a record), events and out (folders), days."""
    workload, spec = task["workload"], FeatureSpec.from_record(task["spec"])
    source, files = workload.source, parts.days(task["events"])
    wanted = {parts.number_of(day) for day in task["days"]}
    windows = [
        window_days(window, min(wanted), max(wanted), _loader(window, spec, files, source)) for window in spec.windows
    ]
    with ThreadPoolExecutor(max(1, len(windows))) as pool:  # numpy sorts and searches outside the lock
        for number in sorted(n for n in map(parts.number_of, files) if min(wanted) <= n <= max(wanted)):
            computed_windows = list(pool.map(next, windows))
            assert all(day == number for day, _ in computed_windows)
            if number not in wanted:
                continue  # taken over, between days that were not
            day = parts.day_at(number)
            events = pl.read_parquet(files[day])
            times = times_of(events, spec.time)
            computed = request_values(spec, request_columns(spec, events, times))
            for _, table in computed_windows:
                computed |= table
            stamp = pl.Series("event_timestamp", event_times(times)).cast(pl.Datetime("us"))
            main = main_table(workload, spec, events, stamp, computed)
            parts.write(main, task["out"] / f"{MAIN}.parquet", day, {HASH_KEY: spec.hash})
            for window, (_, table) in zip(spec.windows, computed_windows, strict=True):
                parts.write(view_table(events[window.key], stamp, table), task["out"] / f"{window.view}.parquet", day)


def _loader(window: Window, spec: FeatureSpec, files: dict[date, Path], source: str) -> Load:
    columns = pl.read_parquet_schema(next(iter(files.values())))

    def load(numbers: range, timed: bool) -> Events | None:
        found = [file for number in numbers if (file := files.get(parts.day_at(number)))]
        if not found:
            return None
        wanted = dict.fromkeys((window.key, window.value, *([spec.time] if timed else [])))
        rows = pl.read_parquet(found, columns=[name for name in wanted if name in columns], hive_partitioning=False)
        times = times_of(rows, spec.time) if timed else None
        if times is not None and len(times) and not {times[0] // DAY, times[-1] // DAY} <= set(numbers):
            raise SeawayError(f"{found[0]} has events of another day: it must hold those of its own, by UTC")
        return Events(keys_of(rows, window.key, source), times, values_of(rows, window.value, source))

    return load


def _latest(workload: Workload, spec: FeatureSpec, latest: Any, valid: Path, out: Path, shelf: Shelf) -> None:
    code = code_of("components.features.by_day")
    about = [asdict(latest), workload.sources[latest.source].time, code]
    for day, file in parts.days(valid / f"{latest.source}.parquet").items():
        target = out / f"{latest.view}.parquet"
        key = f"{shelf.key('latest', about, shelf.digest(file))}-{latest.view}"
        if not shelf.take(key, parts.part(target, day)):
            shelf.keep(key, parts.write(latest_table(workload, latest, pl.read_parquet(file)), target, day))
