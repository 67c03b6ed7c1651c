"""The data set in parts: Feast's join for some days at a time, the days of the splits linked from them."""

from __future__ import annotations

import shutil
import time
from bisect import bisect_left, bisect_right
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from components.dataset.join import joined, open_store, raw_columns
from components.dataset.periods import Period, no_event, splits
from components.ray.spread import shelf_of, spread
from seaway import parts
from seaway.cache import place
from seaway.closure import code_of
from seaway.config import Config
from seaway.errors import SeawayError
from seaway.features import DAY, MICRO, FeatureSpec, micros
from seaway.shelf import Shelf

ROWS = 1_000_000  # joined in one go: some 0.7 GB
JOINED = ".joined"


def dataset_by_day(config: Config, spec: FeatureSpec, features: Path, out: Path) -> dict[str, Any]:
    """As ``step.dataset``, with every table a folder of days; ``features`` has such folders too.

    A day is joined again when its own events changed, or a row of a view that its rows could see.
    """
    from seaway.feast_store import apply

    events = parts.days(features / "features.parquet")
    if not events:
        raise SeawayError("there are no events to make a data set from")
    end = datetime.combine(max(events), datetime.min.time()) + timedelta(days=1)
    periods = splits(config.workload, end)
    span = min(start for start, _ in periods.values()), max(end for _, end in periods.values())
    # with the days between splits: each day passes through all of them, and so is joined once
    wanted = {day: file for day, file in events.items() if _overlap(day, span)}
    apply(open_store(config, features), config)
    shelf = shelf_of(config, "dataset")
    keys = _day_keys(config, spec, features, wanted, shelf)
    out.mkdir(parents=True, exist_ok=True)
    work = out / JOINED
    shutil.rmtree(work, ignore_errors=True)
    began = time.perf_counter()
    missing = [day for day in wanted if not shelf.take(keys[day], parts.part(work, day))]
    about = {"config": config, "spec": spec.as_record(), "features": features, "out": work}
    tasks = [{**about, "days": days} for days in _chunks(missing, wanted)]
    for task, _ in zip(tasks, spread(config, compute, tasks), strict=True):
        for day in task["days"]:
            shelf.keep(keys[day], parts.part(work, day))
    seconds = time.perf_counter() - began
    summary: dict[str, Any] = {"join_seconds": round(seconds, 3), "feature_hash": spec.hash}
    label, joined_days = config.workload.label.column, parts.days(work)
    counts = {
        day: shelf.fact(f"{label} of {keys[day]}", partial(_labels, file, label)) for day, file in joined_days.items()
    }
    for name, period in periods.items():
        summary[name] = _split(name, period, spec.time, label, joined_days, counts, out / f"{name}.parquet")
    shutil.rmtree(work)
    shelf.close()
    return summary | {"days": len(wanted), "days_computed": len(missing)}


def compute(task: dict[str, Any]) -> None:
    """Join the task's days and write them below its ``out``. ``task``: config, spec (a record), features, out, days."""
    spec, table = FeatureSpec.from_record(task["spec"]), task["features"] / "features.parquet"
    files = parts.days(table)
    events = pl.scan_parquet([files[day] for day in task["days"]])
    rows = joined(
        open_store(task["config"], task["features"]), spec, events.select(raw_columns(spec, events)).collect()
    )
    of = pl.col(spec.time).dt.date()
    for day in task["days"]:
        parts.write(rows.filter(of == day), task["out"], day)


def _repository(config: Config) -> list[str]:
    """The modules of the workload's feature repository."""
    folder = Path(config.workload.feature_repo)
    return [".".join((*folder.parts, file.stem)) for file in sorted((config.root / folder).glob("*.py"))]


def _overlap(day: date, period: Period) -> bool:
    start = datetime.combine(day, datetime.min.time())
    return start < period[1] and start + timedelta(days=1) > period[0]


def _day_keys(
    config: Config, spec: FeatureSpec, features: Path, days: dict[date, Path], shelf: Shelf
) -> dict[date, str]:
    """A key a day, of all that the join of the day's rows can see."""
    about = [spec.hash, code_of("components.dataset.by_day", *_repository(config), also=config.root)]
    reaches = {window.view: window.horizon for window in spec.windows}
    reaches |= {latest.view: micros(latest.ttl) + MICRO for latest in spec.latest}
    views = {}
    for view, reach in reaches.items():
        found = parts.days(features / f"{view}.parquet")
        digests = [(day.isoformat(), shelf.digest(file)) for day, file in found.items()]
        # a row may count from the midnight after its part's day on
        views[view] = (timedelta(days=-(-reach // DAY) + 1), list(found), digests)
    keys = {}
    for day, file in days.items():
        seen = {
            view: digests[bisect_left(found, day - back) : bisect_right(found, day)]
            for view, (back, found, digests) in views.items()
        }
        keys[day] = shelf.key("dataset", about, day.isoformat(), shelf.digest(file), seen)
    return keys


def _chunks(days: list[date], files: dict[date, Path]) -> list[list[date]]:
    """Days that follow one another, together of at most ``ROWS`` rows; at least one day."""
    chunks: list[list[date]] = []
    rows = 0
    for day in days:
        height = parts.height(files[day])
        if chunks and day - chunks[-1][-1] == timedelta(days=1) and rows + height <= ROWS:
            chunks[-1].append(day)
            rows += height
        else:
            chunks.append([day])
            rows = height
    return chunks


def _labels(file: Path, label: str) -> tuple[int, int]:
    """How many rows a part has, and the sum of their labels."""
    found = pl.read_parquet(file, columns=[label])[label]
    return len(found), int(found.sum())


def _split(
    name: str,
    period: Period,
    column: str,
    label: str,
    days: dict[date, Path],
    counts: dict[date, tuple[int, int]],
    out: Path,
) -> dict[str, Any]:
    """Write a split's days: links to joined days; a day that the period cuts is written anew.

    ``counts``: the rows of each day and the sum of their labels.
    """
    shutil.rmtree(out, ignore_errors=True)
    written: list[tuple[int, int]] = []
    start, end = period
    for day, file in days.items():
        if not _overlap(day, period):
            continue
        midnight = datetime.combine(day, datetime.min.time())
        if start <= midnight and midnight + timedelta(days=1) <= end:
            place(file, parts.part(out, day))
            written.append(counts[day])
        else:
            cut = pl.read_parquet(file).filter(pl.col(column).is_between(start, end, closed="left"))
            if cut.is_empty():
                continue
            written.append(_labels(parts.write(cut, out, day), label))
    if not written:
        raise no_event(name, period)
    rows, positives = map(sum, zip(*written, strict=True))
    return {"rows": rows, "positives": positives, "start": str(start), "end": str(end)}
