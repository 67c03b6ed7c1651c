"""From a value as found to a typed one, or the reason why that cannot be.

Each parser takes a raw column and gives the typed column (null where there is no value) and reasons:
(mask, words) pairs, the mask true where a value was found that is not of the type.
"""

from __future__ import annotations

import polars as pl

from seaway.config import Column

Parsed = tuple[pl.Series, list[tuple[pl.Series, str]]]

EXACT = 2**53  # a float beyond it may not be the whole number that was meant
NOT_WHOLE, NOT_NUMBER, NOT_TEXT = "not a whole number", "not a number", "not text"
NOT_FINITE = "not a finite number"
NOT_TIME = "not a time; ISO 8601 is read, such as 2018-04-01 00:00:31"
WITH_ZONE = "a time with an offset from UTC, while most of the column has none"
WITHOUT_ZONE = "a time without an offset from UTC, while most of the column has one"

_ZONE = r"\d:\d{2}(:\d{2}(\.\d+)?)? ?(Z|[+-]\d{2}(:?\d{2})?)$"
_FORMATS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")


def parse(raw: pl.Series, column: Column, zoned: bool | None = None) -> Parsed:
    """The column typed: int as Int64, float as Float64, str as String, datetime as Datetime('us'), naive UTC.

    Text is stripped of blanks at its ends; empty text is no value, and so is NaN where the column is
    nullable (data frames often write it so). ``zoned``: whether most times of the whole column have an
    offset from UTC (``zones``); None: ``raw`` is the whole column.
    """
    raw = _stripped(raw)
    if column.nullable and column.type in ("int", "float"):
        raw = raw.fill_nan(None) if raw.dtype.is_float() else raw
        raw = _without(raw, raw.str.to_lowercase() == "nan") if raw.dtype == pl.String else raw
    typed, reasons = _datetime(raw, zoned) if column.type == "datetime" else _PARSERS[column.type](raw)
    return typed, [(mask, words) for mask, words in reasons if mask.any()]


def zones(raw: pl.Series) -> tuple[int, int]:
    """How many times are text with an offset from UTC, and how many without."""
    if raw.dtype != pl.String:
        return 0, 0
    _, zoned, plain = _times(_stripped(raw))
    return int(zoned.sum()), int(plain.sum())


def _stripped(raw: pl.Series) -> pl.Series:
    if raw.dtype != pl.String:
        return raw
    raw = raw.str.strip_chars()
    return _without(raw, raw == "")


def _without(raw: pl.Series, mask: pl.Series) -> pl.Series:
    return raw.set(mask, None) if mask.any() else raw


def _int(raw: pl.Series) -> Parsed:
    if raw.dtype.is_integer() or raw.dtype == pl.Boolean:
        typed = raw.cast(pl.Int64, strict=False)
    elif raw.dtype.is_numeric():
        typed = _whole(raw.cast(pl.Float64))
    elif raw.dtype == pl.String:
        typed = raw.cast(pl.Int64, strict=False)
        if typed.null_count() > raw.null_count():  # such as 12.0 or 1e3
            typed = typed.zip_with(typed.is_not_null(), _whole(raw.cast(pl.Float64, strict=False)))
    else:
        typed = _nothing(raw, pl.Int64)
    return typed, [(raw.is_not_null() & typed.is_null(), NOT_WHOLE)]


def _whole(numbers: pl.Series) -> pl.Series:
    exact = numbers.is_finite() & (numbers == numbers.round(0)) & (numbers.abs() <= EXACT)
    return numbers.set(~exact.fill_null(False), None).cast(pl.Int64)


def _float(raw: pl.Series) -> Parsed:
    readable = raw.dtype.is_numeric() or raw.dtype == pl.String
    typed = raw.cast(pl.Float64, strict=False) if readable else _nothing(raw, pl.Float64)
    return typed, [
        (raw.is_not_null() & typed.is_null(), NOT_NUMBER),
        ((~typed.is_finite()).fill_null(False), NOT_FINITE),
    ]


def _str(raw: pl.Series) -> Parsed:
    typed = _nothing(raw, pl.String) if raw.dtype.is_nested() else raw.cast(pl.String, strict=False)
    return typed, [(raw.is_not_null() & typed.is_null(), NOT_TEXT)]


def _datetime(raw: pl.Series, mostly_zoned: bool | None = None) -> Parsed:
    """Times in UTC. Offsets are honoured, and a time without one is UTC by contract.

    A column that has both comes from two writers, of which one may mean local time: the rarer form is
    refused rather than guessed at (as many of both: those with an offset).
    """
    reasons: list[tuple[pl.Series, str]] = []
    if isinstance(raw.dtype, pl.Datetime):
        utc = raw.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if raw.dtype.time_zone else raw
        typed = utc.cast(pl.Datetime("us"))
    elif raw.dtype == pl.Date:
        typed = raw.cast(pl.Datetime("us"))
    elif raw.dtype == pl.String:
        text, zoned, plain = _times(raw)
        if mostly_zoned is None:
            mostly_zoned = int(zoned.sum()) > int(plain.sum())
        rare, words = (plain, WITHOUT_ZONE) if mostly_zoned else (zoned, WITH_ZONE)
        if rare.any():
            reasons.append((rare, words))
            text = _without(text, rare)
        typed = _zoned_times(text) if mostly_zoned else _plain_times(text)
    else:
        typed = _nothing(raw, pl.Datetime("us"))
    # the zone first: of several reasons for one value, the first is reported
    return typed, [*reasons, (raw.is_not_null() & typed.is_null(), NOT_TIME)]


def _times(raw: pl.Series) -> tuple[pl.Series, pl.Series, pl.Series]:
    """Text that may be a time, in one form; which of it has an offset; which has none."""
    text = raw.str.to_uppercase().str.replace("T", " ", literal=True).str.replace(",", ".", literal=True)
    text = _without(text, ~text.str.contains(r"^\d{4}-\d{2}-\d{2}").fill_null(False))
    zoned = text.str.contains(_ZONE).fill_null(False)
    return text, zoned, text.is_not_null() & ~zoned


def _plain_times(text: pl.Series) -> pl.Series:
    typed = text.str.to_datetime(_FORMATS[0], strict=False, time_unit="us")
    for form in _FORMATS[1:]:
        if typed.null_count() > text.null_count():
            again = text.set(typed.is_not_null(), None).str.to_datetime(form, strict=False, time_unit="us")
            typed = typed.zip_with(typed.is_not_null(), again)
    return typed


def _zoned_times(text: pl.Series) -> pl.Series:
    text = text.str.replace(r" ?Z$", "+00:00").str.replace(r" ([+-])", "${1}").str.replace(r"([+-]\d{2})$", "${1}:00")
    # a time without seconds gets them, so that one format reads all
    text = text.str.replace(r" (\d{2}:\d{2})([+-])", " ${1}:00${2}")
    return text.str.to_datetime(f"{_FORMATS[0]}%z", strict=False, time_unit="us").dt.replace_time_zone(None)


def _nothing(raw: pl.Series, dtype: pl.DataType | type[pl.DataType]) -> pl.Series:
    return pl.Series(raw.name, [None], dtype=dtype).new_from_index(0, len(raw))


_PARSERS = {"int": _int, "float": _float, "str": _str}
