"""The point-in-time join: for each entity row, the newest row of a table that was there at its time.

Pure Polars, one sort and one as-of join a view, so it grows with the number of rows and not with the
square of the rows of a key.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import polars as pl

STAMP = pl.Datetime("us", "UTC")
_TIME, _CREATED, _KNOWN = "__time", "__created", "__known"
_AT, _HIT = "__at", "__hit"
_TICK = timedelta(microseconds=1)
_STRETCH = 32  # days, at most, that are read in one go


def as_utc(name: str, schema: pl.Schema) -> pl.Expr:
    """A time column as microseconds, UTC; times without a zone are taken as UTC."""
    dtype, column = schema[name], pl.col(name)
    if dtype == pl.Date:
        column, dtype = column.cast(pl.Datetime("us")), pl.Datetime("us")
    if not isinstance(dtype, pl.Datetime):
        raise ValueError(f"column {name!r} must be a time, not {dtype}")
    zoned = column.dt.convert_time_zone("UTC") if dtype.time_zone else column.dt.replace_time_zone("UTC")
    return zoned.dt.cast_time_unit("us")


def prepare(
    rows: pl.LazyFrame,
    keys: Sequence[str],
    time: str,
    created: str | None,
    between: tuple[datetime | None, datetime | None],
) -> pl.LazyFrame:
    """Rows with ``__time`` (and ``__created``) in UTC, within ``between`` (both ends included)."""
    schema = rows.collect_schema()
    stamps = [as_utc(time, schema).alias(_TIME)]
    if created:
        stamps.append(as_utc(created, schema).alias(_CREATED))
    rows = rows.with_columns(stamps).filter(pl.col(_TIME).is_not_null(), *[pl.col(k).is_not_null() for k in keys])
    start, end = between
    if start is not None:
        rows = rows.filter(pl.col(_TIME) >= pl.lit(start, dtype=STAMP))
    if end is not None:
        rows = rows.filter(pl.col(_TIME) <= pl.lit(end, dtype=STAMP))
    return rows


def in_order(rows: pl.DataFrame, created: bool) -> pl.DataFrame:
    """Sorted by (time, created), equal ones in file order; rows that are in order already are left alone."""
    by = [_TIME, _CREATED] if created else [_TIME]
    current, before = [pl.col(c) for c in by], [pl.col(c).shift(1) for c in by]
    fits = current[0] > before[0]
    if created:
        fits = fits | ((current[0] == before[0]) & (current[1] >= before[1]).fill_null(False))
    else:
        fits = fits | (current[0] == before[0])
    if rows.height < 2 or rows.select(fits.slice(1).all()).item():
        return rows
    return rows.sort(by, maintain_order=True, nulls_last=False)


def newest(rows: pl.DataFrame, keys: Sequence[str], created: bool) -> pl.DataFrame:
    """The newest row of each key: the latest time, then the latest created, then the last in the file."""
    ordered = in_order(rows, created)
    if not keys:
        return ordered.tail(1)
    return ordered.unique(subset=list(keys), keep="last", maintain_order=True)


def join(
    left: pl.DataFrame,
    moment: str,
    rows: pl.DataFrame,
    keys: Sequence[tuple[str, str]],
    features: dict[str, str],
    ttl: timedelta | None,
    known: bool,
) -> pl.DataFrame:
    """``left`` (sorted by ``moment``) with features from the newest row at or before each moment.

    ``rows`` come from ``prepare``; ``keys``: (column of left, column of rows); ``features``: new name ->
    column of rows. Rows older than ``ttl`` give nulls. Of equal times the latest created counts. With
    ``known`` (rows need ``__created``), a row counts only from its created time on; without a created
    time it never does.
    """
    created = _CREATED in rows.columns
    on = _TIME
    if known and created:
        rows, on = _as_known(rows, [right for _, right in keys])
    else:
        rows = in_order(rows, created)
    right = rows.select(
        pl.col(on).alias(_KNOWN),
        pl.col(_TIME),
        *[pl.col(r).alias(f"__key_{i}") for i, (_, r) in enumerate(keys)],
        *[pl.col(column).alias(name) for name, column in features.items()],
    )
    joined = left.join_asof(
        right,
        left_on=moment,
        right_on=_KNOWN,
        by_left=[name for name, _ in keys] or None,
        by_right=[f"__key_{i}" for i in range(len(keys))] or None,
        strategy="backward",
        check_sortedness=False,
        coalesce=True,
    )
    if ttl:
        fresh = pl.col(_TIME) >= pl.col(moment) - ttl
        joined = joined.with_columns(pl.when(fresh).then(pl.col(name)).alias(name) for name in features)
    return joined.select(*left.columns, *features)


def join_backwards(
    left: pl.DataFrame,
    moment: str,
    rows_between: Callable[[datetime, datetime], pl.DataFrame],
    oldest: datetime,
    keys: Sequence[tuple[str, str]],
    features: dict[str, str],
    ttl: timedelta | None,
    known: bool,
) -> pl.DataFrame:
    """As ``join`` with all rows from ``oldest`` on, read from the newest back, only as far as some have found none.

    ``rows_between(start, end)``: prepared rows with start <= time <= end, at least one. A newer row always counts
    before an older one, so what was found stays. Of rows that find theirs within their own days no more is read.
    """
    end, start = left[moment].max(), _midnight(left[moment].min())
    if ttl:
        oldest = max(oldest, left[moment].min() - ttl)
    waiting, found, days = left.with_row_index(_AT), [], 1
    features = {**features, _HIT: _TIME}
    while True:
        rows = rows_between(start, end)
        joined = join(waiting, moment, rows, keys, features, ttl, known)
        if start <= oldest:
            break
        found.append(joined.filter(pl.col(_HIT).is_not_null()))
        waiting = joined.filter(pl.col(_HIT).is_null()).select(waiting.columns)
        if waiting.is_empty():
            joined = joined.head(0)
            break
        start, end, days = max(start - timedelta(days=days), oldest), start - _TICK, min(2 * days, _STRETCH)
    return pl.concat([*found, joined]).sort(_AT).drop(_AT, _HIT)


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def _as_known(rows: pl.DataFrame, keys: Sequence[str]) -> tuple[pl.DataFrame, str]:
    """Rows in the order in which they became known, less those that were out of date when they did.

    A row is known from max(time, created). Of the rows known at a moment the newest by (time, created)
    counts, so a row that arrives after a newer one of its key never counts.
    """
    rows = in_order(rows.filter(pl.col(_CREATED).is_not_null()), created=True).with_row_index("__rank")
    rows = rows.with_columns(pl.max_horizontal(_TIME, _CREATED).alias(_KNOWN))
    rows = rows.sort(_KNOWN, "__rank")
    if rows["__rank"].is_sorted():
        return rows, _KNOWN  # none arrived after a newer one
    best = pl.col("__rank").cum_max()
    return rows.filter(pl.col("__rank") == (best.over(list(keys)) if keys else best)), _KNOWN
