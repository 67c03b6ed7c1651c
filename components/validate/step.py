"""Step: raw rows -> rows that keep the data contract; the others go to quarantine, each with its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from components.ingest.step import FILE, ROW, SURPLUS
from components.validate.contract import FAILURES, failures, row_schema, table_schema
from components.validate.parse import parse
from seaway.artifacts import atomic_write
from seaway.config import Source, Workload
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


def validate(workload: Workload, raw: Path, out: Path, quarantine: Path) -> dict[str, Any]:
    """Write ``out/<source>.parquet``, the good rows typed and sorted by (time, id), and the quarantine.

    ``raw`` holds what the ingest step wrote. The quarantine is one Parquet file for all sources with
    (source, file, row, field, value, reason), one line per broken value. Returns {source: {rows_in,
    rows_good, quarantined, reasons, first_time, last_time}}; ``quarantined`` counts rows. Raises
    SeawayError for a missing column, an empty source, and, once the quarantine is written, for a source
    whose share of bad rows is above ``workload.quarantine_limit``.
    """
    good: dict[str, pl.DataFrame] = {}
    bad: dict[str, pl.DataFrame] = {}
    summary: dict[str, Any] = {}
    for name, source in workload.sources.items():
        good[name], bad[name], summary[name] = _judge(name, source, raw / f"{name}.parquet")
    with atomic_write(quarantine) as temporary:
        pl.concat(bad.values()).write_parquet(temporary)
    for name, counts in summary.items():
        if counts["quarantined"] > workload.quarantine_limit * counts["rows_in"]:
            raise SeawayError(_too_many(name, counts, bad[name], workload.quarantine_limit, quarantine))
    out.mkdir(parents=True, exist_ok=True)
    for name, table in good.items():
        with atomic_write(out / f"{name}.parquet") as temporary:
            table.write_parquet(temporary, compression="lz4")
    return summary


def _judge(name: str, source: Source, file: Path) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, Any]]:
    schema = row_schema(source)
    found = _read(name, source, file)
    typed, problems = _parse(found, source)
    broken = pl.concat([*problems, failures(schema, typed)]).unique(
        ["index", "field"], keep="first", maintain_order=True
    )
    typed = typed.with_row_index("index").with_columns(pl.col("index").cast(pl.Int64))
    if broken.height:
        typed = typed.filter(~pl.col("index").is_in(broken["index"].implode()))
    # ids are compared among rows that are otherwise good, so a bad row cannot displace a good one
    twice = failures(table_schema(source), typed)
    if twice.height:
        twice = twice.with_columns(typed["index"].gather(twice["index"]))
        typed = typed.filter(~pl.col("index").is_in(twice["index"].implode()))
    broken = pl.concat([broken, twice]).sort("index", maintain_order=True)
    good = typed.drop("index").sort([source.time, source.id] if source.id else [source.time], maintain_order=True)
    bad = _explained(name, found, broken)
    counts = bad.select(pl.format("{}: {}", "field", "reason").alias("why"))["why"].value_counts(sort=True)
    return (
        good,
        bad,
        {
            "rows_in": found.height,
            "rows_good": good.height,
            "quarantined": found.height - good.height,
            "reasons": dict(sorted(counts.rows(), key=lambda pair: (-pair[1], pair[0]))),
            "first_time": _iso(good[source.time].min()),
            "last_time": _iso(good[source.time].max()),
        },
    )


def _read(name: str, source: Source, file: Path) -> pl.DataFrame:
    if not file.exists():
        raise SeawayError(f"{file} does not exist: run the ingest step first")
    names = pl.read_parquet_schema(file)
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
    extra = [c for c in (SURPLUS,) if c in names]
    found = pl.read_parquet(file, columns=[*source.columns, FILE, ROW, *extra])
    if not found.height:
        raise SeawayError(f"source {name!r}: no rows in {file}")
    return found


def _parse(found: pl.DataFrame, source: Source) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    columns, problems = [], []
    if SURPLUS in found.columns:
        problems.append(_problem(found[SURPLUS].is_not_null(), SURPLUS, TOO_LONG))
    for name, column in source.columns.items():
        typed, reasons = parse(found[name], column)
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


def _explained(name: str, found: pl.DataFrame, broken: pl.DataFrame) -> pl.DataFrame:
    """The quarantine's rows: where each broken value stood and what it was."""
    parts = [
        rows.with_columns(found[str(field)].gather(rows["index"]).cast(pl.String).alias("value"))
        for (field,), rows in broken.partition_by("field", as_dict=True).items()
    ]
    rows = pl.concat(parts).sort("index", maintain_order=True) if parts else broken.with_columns(value=pl.lit(""))
    return rows.with_columns(
        pl.lit(name).alias("source"),
        found[FILE].gather(rows["index"]).alias("file"),
        found[ROW].gather(rows["index"]).alias("row"),
        pl.col("field").replace(SURPLUS, "(end of line)"),
    ).select(pl.col(c).cast(t) for c, t in QUARANTINE.items())


def _too_many(name: str, counts: dict[str, Any], bad: pl.DataFrame, limit: float, quarantine: Path) -> str:
    share = counts["quarantined"] / counts["rows_in"]
    lines = [
        f"source {name!r}: {counts['quarantined']:,} of {counts['rows_in']:,} rows ({share:.1%}) break the data "
        f"contract; the limit is {limit:.1%}"
    ]
    for why, n in list(counts["reasons"].items())[:5]:
        first = bad.filter(pl.format("{}: {}", "field", "reason") == why).row(0, named=True)
        lines.append(f"  {n:,} x {why} (first: {first['file']}, row {first['row']}: {first['value']!r})")
    lines.append(f"Each bad value is in {quarantine}. Correct the data and run again; if the rows are right, change")
    lines.append(f"sources.{name}.columns in the workload's file, or raise its quarantine_limit.")
    return "\n".join(lines)


def _iso(moment: Any) -> str | None:
    return moment.isoformat() if moment is not None else None
