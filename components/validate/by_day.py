"""Validation in parts: raw rows judged some at a time, good ones put in order a few days at a time.

Two things are about a whole table: whether most of its times have an offset from UTC, which is counted before; and
which ids came before, which is looked for after, in as many passes as memory asks for, unless the ids of every stretch
of rows lie apart.
"""

from __future__ import annotations

import shutil
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl

from components.ray.spread import shelf_of
from components.validate.contract import failures, table_schema
from components.validate.judge import QUARANTINE, columns_to_read, explained, in_order
from components.validate.step import heed_limit, summarised
from components.validate.stretches import Judged, judge_table, rows_of
from seaway import parts
from seaway.artifacts import atomic_write
from seaway.closure import code_of
from seaway.config import Config, Source
from seaway.shelf import Shelf

ROWS = 500_000  # put in order in one go
IDS = 4_000_000  # compared in one go
WORK = ".judged"


def validate_by_day(config: Config, raw: Path, out: Path, quarantine: Path) -> dict[str, Any]:
    """As ``step.validate``, with the good rows of every source in a folder of days."""
    workload = config.workload
    shelf, work, code = shelf_of(config, "validate"), out / WORK, code_of("components.validate.by_day")
    shutil.rmtree(work, ignore_errors=True)
    judged: dict[str, list[Judged]] = {}
    twice: dict[str, pl.DataFrame] = {}
    bad: dict[str, list[pl.LazyFrame]] = {}
    try:
        for name, source in workload.sources.items():
            judged[name] = judge_table(config, name, source, raw / f"{name}.parquet", work / name, shelf, code)
            twice[name] = _twice(source, judged[name])
            bad[name] = [pl.LazyFrame(schema=QUARANTINE)]
            for part in judged[name]:
                dropped = _dropped(part, twice[name]) if twice[name].height else twice[name]
                if part.facts["bad"] or dropped.height:
                    bad[name].append(_bad(name, source, part, dropped))
        with atomic_write(quarantine) as temporary:
            pl.concat([frame for frames in bad.values() for frame in frames]).sink_parquet(temporary)
        out.mkdir(parents=True, exist_ok=True)
        counts = {
            name: {
                "in": sum(part.stretch.rows for part in judged[name]),
                "good": sum(part.facts["good"] for part in judged[name]) - twice[name]["at"].n_unique(),
            }
            for name in workload.sources
        }
        for name in workload.sources:
            rows, good = counts[name]["in"], counts[name]["good"]
            found = summarised(rows, good, pl.concat(bad[name]), None, None)
            heed_limit(name, found, pl.concat(bad[name]), workload.quarantine_limit, quarantine)
        summary = {}
        for name, source in workload.sources.items():
            table = out / f"{name}.parquet"
            _arrange(source, judged[name], twice[name], table, shelf, code)
            rows, good = counts[name]["in"], counts[name]["good"]
            summary[name] = summarised(rows, good, pl.concat(bad[name]), *_edges(table, source.time))
        shelf.close()
        return summary
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _twice(source: Source, judged: list[Judged]) -> pl.DataFrame:
    """(at, field, reason) of good rows whose id came before; ``at`` is the row's position in the whole raw table."""
    nothing = pl.DataFrame(schema={"at": pl.Int64, "field": pl.String, "reason": pl.String})
    filled = [part for part in judged if part.facts["good"]]
    if not source.id or not filled:
        return nothing
    spans = [(part.facts["low"], part.facts["high"]) for part in filled]
    if all(part.facts["apart"] for part in filled) and all(a[1] < b[0] for a, b in pairwise(sorted(spans))):
        return nothing
    passes = -(-sum(part.facts["good"] for part in filled) // IDS)
    ids = pl.concat(
        pl.scan_parquet(part.good).select(source.id, (pl.col("index") + part.stretch.offset).alias("at"))
        for part in filled
    )
    found = [nothing]
    for number in range(passes):
        some = ids.filter(pl.col(source.id).hash() % passes == number).collect()
        again = failures(table_schema(source), some)
        found.append(again.select(some["at"].gather(again["index"]).alias("at"), "field", "reason"))
    return pl.concat(found)


def _dropped(part: Judged, twice: pl.DataFrame) -> pl.DataFrame:
    """The (index, field, reason) of a stretch's rows among ``twice``."""
    index = pl.col("at") - part.stretch.offset
    return twice.select(index.alias("index"), "field", "reason").filter(
        pl.col("index").is_between(0, part.stretch.rows, closed="left")
    )


def _bad(name: str, source: Source, part: Judged, dropped: pl.DataFrame) -> pl.LazyFrame:
    bad = pl.scan_parquet(part.bad)
    if dropped.height:
        stretch = part.stretch
        columns = columns_to_read(name, source, pl.read_parquet_schema(stretch.file))
        found = rows_of(stretch.file, stretch.start, stretch.rows, columns)
        bad = pl.concat([bad, explained(name, found, dropped).lazy()]).sort("index", maintain_order=True)
    return bad.select(list(QUARANTINE))


def _arrange(source: Source, judged: list[Judged], twice: pl.DataFrame, table: Path, shelf: Shelf, code: str) -> None:
    """Write the good rows as days, each in order of (time, id); days of the same stretches are taken over."""
    shutil.rmtree(table, ignore_errors=True)
    table.mkdir(parents=True)
    about = [source.time, source.id, code]
    dropped = [_dropped(part, twice)["index"].unique().sort().to_list() if twice.height else [] for part in judged]
    made_of: dict[date, list[int]] = {}
    for number, part in enumerate(judged):
        for day in part.facts["days"]:
            made_of.setdefault(day, []).append(number)
    keys = {}
    for day, numbers in made_of.items():
        seen = [(judged[n].key, dropped[n]) for n in numbers]
        keys[day] = f"{shelf.key('valid', about, day.isoformat(), seen)}-valid"
    missing = [day for day in sorted(made_of) if not shelf.take(keys[day], parts.part(table, day))]
    tasks = []
    for days in _batches(missing, judged):
        numbers = sorted({n for day in days for n in made_of[day]})
        files = [(judged[n].good, dropped[n]) for n in numbers]
        tasks.append({"source": source, "files": files, "days": days, "table": table})
    for task in tasks:  # reading and writing, mostly: not worth a start of Ray
        arrange(task)
        for day in task["days"]:
            if (file := parts.part(table, day)).exists():  # all its rows may have been there before
                shelf.keep(keys[day], file)


def arrange(task: dict[str, Any]) -> None:
    """Write the days of a batch from the stretches that have rows of them."""
    source, days = task["source"], task["days"]
    of = pl.col(task["source"].time).dt.date()
    rows = pl.concat(
        pl.scan_parquet(file).filter(of.is_between(days[0], days[-1]), ~pl.col("index").is_in(dropped)).collect()
        for file, dropped in task["files"]
    ).drop("index")
    wanted = set(days)
    for (day,), part in in_order(rows, source).group_by(of, maintain_order=True):
        if day in wanted:
            parts.write(part, task["table"], day)


def _batches(days: list[date], judged: list[Judged]) -> list[list[date]]:
    """Days in turn, together of at most ``ROWS`` rows; at least one day."""
    counts: dict[date, int] = {}
    for part in judged:
        for day, rows in part.facts["days"].items():
            counts[day] = counts.get(day, 0) + rows
    batches: list[list[date]] = []
    held = 0
    for day in days:
        if batches and held + counts[day] <= ROWS:
            batches[-1].append(day)
            held += counts[day]
        else:
            batches.append([day])
            held = counts[day]
    return batches


def _edges(table: Path, column: str) -> tuple[Any, Any]:
    """The first and the last time of the good rows; None where there are none."""
    days = parts.days(table)
    if not days:
        return None, None
    first, last = (pl.read_parquet(days[edge], columns=[column])[column] for edge in (min(days), max(days)))
    return first.min(), last.max()
