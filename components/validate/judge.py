"""Judging rows by the data contract: what of a raw table is typed and good, and why the rest is not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import polars as pl

from components.ingest.step import FILE, ROW, SURPLUS
from components.validate.contract import FAILURES, failures, row_schema
from components.validate.parse import parse
from seaway.config import Source
from seaway.errors import SeawayError

QUARANTINE = {
    "source": pl.String(),
    "file": pl.String(),
    "row": pl.Int64(),
    "field": pl.String(),
    "value": pl.String(),
    "reason": pl.String(),
}
TOO_LONG = "more fields than the header"


def columns_to_read(name: str, source: Source, names: Iterable[str]) -> list[str]:
    """The columns of a raw table that are judged, of those that it has; SeawayError for a missing one."""
    names = list(names)
    shown = [c for c in names if c not in (FILE, ROW, SURPLUS)]
    needed = dict.fromkeys((*source.columns, source.time, *([source.id] if source.id else [])))
    if undeclared := [c for c in needed if c not in source.columns]:
        raise SeawayError(
            f"source {name!r}: {undeclared[0]!r} is its time or id but is not among its columns; declare it"
        )
    if missing := [c for c in needed if c not in names]:
        raise SeawayError(
            f"source {name!r}: missing column {', '.join(map(repr, missing))}; found: {', '.join(shown)}. "
            "Rename the columns of the file, or change the workload's file"
        )
    return [*source.columns, FILE, ROW, *([SURPLUS] if SURPLUS in names else [])]


def nothing_there(file: Path) -> SeawayError:
    return SeawayError(f"{file} does not exist: run the ingest step first")


def judge_rows(
    found: pl.DataFrame, source: Source, zoned: Mapping[str, bool] | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows that are good by themselves, typed, with ``index`` (position in ``found``); and (index, field, reason).

    ``zoned``: by column of times, whether most of the whole table's have an offset; None: ``found`` is the whole.
    """
    schema = row_schema(source)
    typed, problems = _parse(found, source, zoned or {})
    broken = pl.concat([*problems, failures(schema, typed)]).unique(
        ["index", "field"], keep="first", maintain_order=True
    )
    typed = typed.with_row_index("index").with_columns(pl.col("index").cast(pl.Int64))
    return without(typed, broken), broken


def without(rows: pl.DataFrame, broken: pl.DataFrame) -> pl.DataFrame:
    """``rows`` less those whose ``index`` is in ``broken``."""
    return rows.filter(~pl.col("index").is_in(broken["index"].implode())) if broken.height else rows


def in_order(rows: pl.DataFrame, source: Source) -> pl.DataFrame:
    """By (time, id); equal ones as they came."""
    return rows.sort([source.time, source.id] if source.id else [source.time], maintain_order=True)


def explained(name: str, found: pl.DataFrame, broken: pl.DataFrame) -> pl.DataFrame:
    """The quarantine's rows and their ``index``: where each broken value stood and what it was."""
    broken = broken.sort("index", maintain_order=True).with_row_index("position")
    pieces = [
        rows.with_columns(found[str(field)].gather(rows["index"]).cast(pl.String).alias("value"))
        for (field,), rows in broken.partition_by("field", as_dict=True).items()
    ]
    rows = pl.concat(pieces).sort("position") if pieces else broken.with_columns(value=pl.lit(""))
    return rows.with_columns(
        pl.lit(name).alias("source"),
        found[FILE].gather(rows["index"]).alias("file"),
        found[ROW].gather(rows["index"]).alias("row"),
        pl.col("field").replace(SURPLUS, "(end of line)"),
    ).select("index", *(pl.col(c).cast(t) for c, t in QUARANTINE.items()))


def _parse(found: pl.DataFrame, source: Source, zoned: Mapping[str, bool]) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    columns, problems = [], []
    if SURPLUS in found.columns:
        problems.append(_problem(found[SURPLUS].is_not_null(), SURPLUS, TOO_LONG))
    for name, column in source.columns.items():
        typed, reasons = parse(found[name], column, zoned.get(name))
        columns.append(typed.alias(name))
        problems += [_problem(mask, name, words) for mask, words in reasons]
    return pl.DataFrame(columns), problems


def _problem(mask: pl.Series, field: str, reason: str) -> pl.DataFrame:
    index = mask.arg_true().cast(pl.Int64)
    return (
        pl.DataFrame({"index": index})
        .with_columns(pl.lit(field, pl.String).alias("field"), pl.lit(reason, pl.String).alias("reason"))
        .select(list(FAILURES))
    )
