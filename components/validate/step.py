"""Step: raw rows -> rows that keep the data contract; the others go to quarantine, each with its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from components.ray.spread import in_parts
from components.validate.contract import failures, table_schema
from components.validate.judge import (
    QUARANTINE,
    columns_to_read,
    explained,
    in_order,
    judge_rows,
    nothing_there,
    without,
)
from seaway.artifacts import atomic_write
from seaway.config import Config, Source, Workload
from seaway.errors import SeawayError

__all__ = ["QUARANTINE", "validate"]


def validate(
    workload: Workload, raw: Path, out: Path, quarantine: Path, config: Config | None = None
) -> dict[str, Any]:
    """Write ``out/<source>.parquet``, the good rows typed and sorted by (time, id), and the quarantine.

    ``raw`` holds what the ingest step wrote. The quarantine is one Parquet file for all sources with
    (source, file, row, field, value, reason), one line per broken value. With a ``config`` whose
    ``data.engine`` is not memory, the good rows are folders of days (seaway.parts), with the same rows.
    Returns {source: {rows_in, rows_good, quarantined, reasons, first_time, last_time}}; ``quarantined``
    counts rows. Raises SeawayError for a missing column, an empty source, and, once the quarantine is
    written, for a source whose share of bad rows is above ``workload.quarantine_limit``.
    """
    if config is not None and in_parts(config):
        from components.validate.by_day import validate_by_day

        return validate_by_day(config, raw, out, quarantine)
    good: dict[str, pl.DataFrame] = {}
    bad: dict[str, pl.DataFrame] = {}
    summary: dict[str, Any] = {}
    for name, source in workload.sources.items():
        good[name], bad[name], summary[name] = _judge(name, source, raw / f"{name}.parquet")
    with atomic_write(quarantine) as temporary:
        pl.concat(bad.values()).write_parquet(temporary)
    for name, counts in summary.items():
        heed_limit(name, counts, bad[name].lazy(), workload.quarantine_limit, quarantine)
    out.mkdir(parents=True, exist_ok=True)
    for name, table in good.items():
        with atomic_write(out / f"{name}.parquet") as temporary:
            table.write_parquet(temporary, compression="lz4")
    return summary


def _judge(name: str, source: Source, file: Path) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, Any]]:
    if not file.exists():
        raise nothing_there(file)
    found = pl.read_parquet(file, columns=columns_to_read(name, source, pl.read_parquet_schema(file)))
    if not found.height:
        raise SeawayError(f"source {name!r}: no rows in {file}")
    typed, broken = judge_rows(found, source)
    # ids are compared among rows that are otherwise good, so a bad row cannot displace a good one
    twice = failures(table_schema(source), typed)
    if twice.height:
        twice = twice.with_columns(typed["index"].gather(twice["index"]))
    good = in_order(without(typed, twice).drop("index"), source)
    bad = explained(name, found, pl.concat([broken, twice])).drop("index")
    times = good[source.time]
    return good, bad, summarised(found.height, good.height, bad.lazy(), times.min(), times.max())


def summarised(rows: int, good: int, bad: pl.LazyFrame, first: Any, last: Any) -> dict[str, Any]:
    """What is told of a source."""
    why = pl.format("{}: {}", "field", "reason").alias("why")
    counts = bad.group_by(why).len().collect()
    return {
        "rows_in": rows,
        "rows_good": good,
        "quarantined": rows - good,
        "reasons": dict(sorted(counts.rows(), key=lambda pair: (-pair[1], pair[0]))),
        "first_time": _iso(first),
        "last_time": _iso(last),
    }


def heed_limit(name: str, counts: dict[str, Any], bad: pl.LazyFrame, limit: float, quarantine: Path) -> None:
    """SeawayError with the commonest reasons for a source of which too many rows are bad."""
    if counts["quarantined"] <= limit * counts["rows_in"]:
        return
    share = counts["quarantined"] / counts["rows_in"]
    lines = [
        f"source {name!r}: {counts['quarantined']:,} of {counts['rows_in']:,} rows ({share:.1%}) break the data "
        f"contract; the limit is {limit:.1%}"
    ]
    for why, n in list(counts["reasons"].items())[:5]:
        of = bad.filter(pl.format("{}: {}", "field", "reason") == why)
        first = of.head(1).collect().row(0, named=True)
        lines.append(f"  {n:,} x {why} (first: {first['file']}, row {first['row']}: {first['value']!r})")
    lines.append(f"Each bad value is in {quarantine}. Correct the data and run again; if the rows are right, change")
    lines.append(f"sources.{name}.columns in the workload's file, or raise its quarantine_limit.")
    raise SeawayError("\n".join(lines))


def _iso(moment: Any) -> str | None:
    return moment.isoformat() if moment is not None else None
