"""A raw table in stretches of rows, each judged by itself: good rows, bad rows, and what is known of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from components.ray.spread import spread
from components.validate.judge import columns_to_read, explained, judge_rows, nothing_there
from components.validate.parse import zones
from seaway.config import Config, Source
from seaway.errors import SeawayError
from seaway.shelf import Shelf

ROWS = 500_000  # judged in one go


@dataclass(frozen=True)
class Stretch:
    """Rows of a raw table that are judged together: ``rows`` rows of ``file`` from ``start`` on; ``offset`` in all."""

    file: Path
    start: int
    rows: int
    offset: int
    key: str


@dataclass(frozen=True)
class Judged:
    """What became of a stretch: files of good rows (with ``index``) and of bad ones, and what is known of them."""

    stretch: Stretch
    key: str
    good: Path
    bad: Path
    facts: dict[str, Any]


def _stretches(file: Path, shelf: Shelf) -> list[Stretch]:
    files = sorted(p for p in file.glob("*.parquet") if not p.name.startswith(".")) if file.is_dir() else [file]
    found: list[Stretch] = []
    offset = 0
    for part in files:
        rows = shelf.rows(part)
        for start in range(0, rows, ROWS):
            size = min(ROWS, rows - start)
            found.append(Stretch(part, start, size, offset, shelf.key(shelf.digest(part), start, size)))
            offset += size
    return found


def judge_table(
    config: Config, name: str, source: Source, file: Path, work: Path, shelf: Shelf, code: str
) -> list[Judged]:
    """Judge every stretch of a raw table, files to ``work``; what was judged by the same rules before is taken over.

    ``code``: hash of the code that decides it.
    """
    if not file.exists():
        raise nothing_there(file)
    stretches = _stretches(file, shelf)
    if not stretches:
        raise SeawayError(f"source {name!r}: no rows in {file}")
    if source.time in source.columns and source.columns[source.time].nullable:
        raise SeawayError(
            f"source {name!r}: its time {source.time!r} may be empty, so such rows have no day: drop `nullable`, or "
            "set data.engine to memory"
        )
    schema = pl.read_parquet_schema(stretches[0].file)
    columns = columns_to_read(name, source, schema)
    work.mkdir(parents=True)
    zoned = _zoned(source, schema, stretches, work, shelf)
    about = [
        name,
        source.model_dump(mode="json", exclude={"path", "generator"}),
        zoned,
        code,
    ]
    judged, tasks = [], []
    for number, stretch in enumerate(stretches):
        key = shelf.key("judged", about, stretch.key)
        at = {kind: work / f"{number:06d}-{kind}.parquet" for kind in ("good", "bad", "facts")}
        judged.append((stretch, key, at))
        if not shelf.take_all({f"{key}-{kind}": target for kind, target in at.items()}):
            tasks.append({"name": name, "source": source, "columns": columns, "zoned": zoned, "key": key, "at": at,
                          "file": stretch.file, "start": stretch.start, "rows": stretch.rows})  # fmt: skip
    for task, _ in zip(tasks, spread(config, judge, tasks), strict=True):
        for kind, made in task["at"].items():
            shelf.keep(f"{task['key']}-{kind}", made)
    known = pl.read_parquet([at["facts"] for _, _, at in judged]).to_dicts()
    return [
        Judged(
            stretch,
            key,
            at["good"],
            at["bad"],
            {**facts, "days": dict(zip(facts["days"], facts["counts"], strict=True))},
        )
        for (stretch, key, at), facts in zip(judged, known, strict=True)
    ]


def contract_of(source: Source) -> dict[str, Any]:
    """What of a source decides how its rows are judged: not where they come from."""
    return source.model_dump(mode="json", exclude={"path", "generator"})


def judge(task: dict[str, Any]) -> None:
    """Judge a stretch of raw rows and write what became of it: good rows, bad ones, facts."""
    source = task["source"]
    found = rows_of(task["file"], task["start"], task["rows"], task["columns"])
    good, broken = judge_rows(found, source, task["zoned"])
    days = good.group_by(pl.col(source.time).dt.date().alias("day")).len().sort("day")
    facts: dict[str, Any] = {"good": good.height, "bad": broken.height, "days": [days["day"]], "counts": [days["len"]]}
    if source.id:
        ids = good[source.id]
        edges = good.select(pl.col(source.id).min().alias("low"), pl.col(source.id).max().alias("high"))
        facts |= {**edges.to_dict(), "apart": not ids.null_count() and ids.n_unique() == len(ids)}
    good.write_parquet(task["at"]["good"], compression="lz4")
    explained(task["name"], found, broken).write_parquet(task["at"]["bad"])
    pl.DataFrame(facts).write_parquet(task["at"]["facts"])


def rows_of(file: Path, start: int, rows: int, columns: list[str]) -> pl.DataFrame:
    return pl.scan_parquet(file).slice(start, rows).select(columns).collect()


def _zoned(source: Source, schema: pl.Schema, stretches: list[Stretch], work: Path, shelf: Shelf) -> dict[str, bool]:
    """By column of times that are text: whether most of them have an offset."""
    names = [n for n, c in source.columns.items() if c.type == "datetime" and schema[n] == pl.String]
    counts = dict.fromkeys(names, (0, 0))
    for stretch in stretches if names else ():
        target, key = work / "zones.parquet", f"{shelf.key('zones', names, stretch.key)}-zones"
        if not shelf.take(key, target):
            rows = rows_of(stretch.file, stretch.start, stretch.rows, names)
            made = {name: pl.Series(zones(rows[name]), dtype=pl.Int64) for name in names}
            target.unlink(missing_ok=True)  # it may be a link to a kept one
            pl.DataFrame(made).write_parquet(target)
            shelf.keep(key, target)
        for name, (zoned, plain) in pl.read_parquet(target).to_dict(as_series=False).items():
            counts[name] = counts[name][0] + zoned, counts[name][1] + plain
    return {name: zoned > plain for name, (zoned, plain) in counts.items()}
