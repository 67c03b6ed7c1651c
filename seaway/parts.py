"""Tables in parts: a table is one Parquet file, or a folder of that name with a Parquet file a day.

``features.parquet`` may be a file or hold ``2018-04-01.parquet``, ``2018-04-02.parquet`` and so on. Polars reads
both by the same name, parts in the order of their names, so whoever takes a table whole need not know which it is.
A day is one of UTC; a part holds the rows of that day in the order that the whole table has them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path

import polars as pl

from seaway.artifacts import atomic_write
from seaway.errors import SeawayError

SUFFIX = ".parquet"
EPOCH = date(1970, 1, 1)


def days(table: Path, start: date | None = None, end: date | None = None) -> dict[date, Path]:
    """The parts of a table by day, in order, from ``start`` up to ``end`` (not included).

    SeawayError for a table that is not there, or is one file, or has a part that is not named by a day.
    """
    if not table.is_dir():
        what = "is one file, not a folder of days" if table.exists() else "does not exist"
        raise SeawayError(f"{table} {what}: run the step before it with the same `data.engine`")
    found = {}
    for name in sorted(os.listdir(table)):
        if not name.endswith(SUFFIX) or name.startswith("."):
            continue  # such as what a killed writer left
        try:
            day = date.fromisoformat(name.removesuffix(SUFFIX))
        except ValueError:
            wrong = table / name
            raise SeawayError(f"{wrong} is not named by its day, such as 2018-04-01{SUFFIX}: take it away") from None
        if (start is None or day >= start) and (end is None or day < end):
            found[day] = table / name
    return found


def part(table: Path, day: date) -> Path:
    """Where the table's part of a day is, or would be."""
    return table / f"{day.isoformat()}{SUFFIX}"


def write(frame: pl.DataFrame, table: Path, day: date, metadata: dict[str, str] | None = None) -> Path:
    """Write the part of a day, whole or not at all; rows are taken as they are. ``metadata``: of the Parquet file."""
    file = part(table, day)
    with atomic_write(file) as temporary:
        frame.write_parquet(temporary, compression="lz4", metadata=metadata)
    return file


def scan(table: Path, start: date | None = None, end: date | None = None) -> pl.LazyFrame:
    """The rows of a table, lazily; of a folder only the days from ``start`` up to ``end`` (not included).

    Of a single file all rows: it has no days. SeawayError where there is nothing to read.
    """
    if not table.is_dir():
        if not table.exists():
            raise SeawayError(f"{table} does not exist")
        return pl.scan_parquet(table)
    files = list(days(table, start, end).values())
    if not files:  # the columns are those of any part
        every = list(days(table).values())
        if not every:
            raise SeawayError(f"{table} has no part")
        return pl.scan_parquet(every[0]).head(0)
    return pl.scan_parquet(files, hive_partitioning=False)


def read(
    table: Path, start: date | None = None, end: date | None = None, columns: Iterable[str] | None = None
) -> pl.DataFrame:
    """As ``scan``, collected; only ``columns`` if given."""
    rows = scan(table, start, end)
    return (rows if columns is None else rows.select(list(columns))).collect()


def height(file: Path) -> int:
    """How many rows a Parquet file has, by its footer."""
    import pyarrow.parquet as pq

    return pq.read_metadata(file).num_rows


def day_at(number: int) -> date:
    """The day with this number of days since 1970-01-01."""
    return EPOCH + timedelta(days=int(number))


def number_of(day: date) -> int:
    return (day - EPOCH).days
