"""The data contract of a source as Pandera schemas, and what of a table breaks it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pandera.polars as pa
import polars as pl
from pandera.errors import SchemaErrors

from components.validate.parse import NOT_FINITE
from seaway.config import Column, Source
from seaway.errors import SeawayError

TYPES: dict[str, Any] = {"int": pl.Int64(), "float": pl.Float64(), "str": pl.String(), "datetime": pl.Datetime("us")}
EMPTY, DUPLICATE = "empty", "duplicated id; the first row is kept"
FAILURES = {"index": pl.Int64(), "field": pl.String(), "reason": pl.String()}


def row_schema(source: Source) -> pa.DataFrameSchema:
    """What each row must hold: types, bounds, allowed values, no gaps. Reasons are the checks' errors.

    Raises SeawayError for a contract that makes no sense, such as a minimum of text.
    """
    columns = {
        name: pa.Column(TYPES[column.type], list(_checks(name, column)), nullable=column.nullable)
        for name, column in source.columns.items()
    }
    return pa.DataFrameSchema(columns, strict=True, ordered=True)


def table_schema(source: Source) -> pa.DataFrameSchema:
    """What the rows must be together: ids are unique. Of the same id, rows after the first fail."""
    ids = (
        {source.id: pa.Column(TYPES[source.columns[source.id].type], pa.Check(_new, error=DUPLICATE))}
        if source.id
        else {}
    )
    return pa.DataFrameSchema(ids)


def failures(schema: pa.DataFrameSchema, table: pl.DataFrame) -> pl.DataFrame:
    """The (index, field, reason) of every value of ``table`` that breaks the schema; index is the row's position."""
    try:
        schema.validate(table, lazy=True)
        return pl.DataFrame(schema=FAILURES)
    except SchemaErrors as errors:
        cases = errors.failure_cases
    if cases["index"].null_count():  # not about rows: the table is not of the schema's shape, which is our mistake
        raise SeawayError(f"the parsed table does not have the contract's columns: {cases.to_dicts()[:3]}")
    return cases.select(
        pl.col("index").cast(pl.Int64),
        pl.col("column").alias("field"),
        pl.col("check").replace({"not_nullable": EMPTY}).alias("reason"),
    )


def _checks(name: str, column: Column) -> Iterator[pa.Check]:
    if column.type == "float":
        yield pa.Check(_finite, error=NOT_FINITE)
    for bound, check, words in ((column.minimum, pa.Check.ge, "below"), (column.maximum, pa.Check.le, "above")):
        if bound is not None:
            limit = _limit(name, column, bound)
            yield check(limit, error=f"{words} {limit}")
    if column.allowed is not None:
        wrong = [v for v in column.allowed if not isinstance(v, _ALLOWED[column.type])]
        if wrong:
            raise SeawayError(f"column {name!r} is {column.type}, so {wrong[0]!r} cannot be among its allowed values")
        yield pa.Check.isin(column.allowed, error=f"not one of {', '.join(map(str, column.allowed))}")


_ALLOWED = {"int": int, "float": (int, float), "str": str, "datetime": ()}


def _finite(data: pa.PolarsData) -> pl.LazyFrame:
    return data.lazyframe.select(pl.col(data.key).is_finite())


def _new(data: pa.PolarsData) -> pl.LazyFrame:
    # Pandera's own unique=True fails the first row of an id too
    return data.lazyframe.select(pl.col(data.key).is_first_distinct())


def _limit(name: str, column: Column, bound: Any) -> Any:
    if column.type in ("int", "float") and isinstance(bound, int | float):
        return int(bound) if float(bound).is_integer() else bound
    if column.type == "datetime" and isinstance(bound, datetime):
        return bound.astimezone(UTC).replace(tzinfo=None) if bound.tzinfo else bound
    raise SeawayError(f"column {name!r} is {column.type}, so it can have no minimum or maximum {bound!r}")
