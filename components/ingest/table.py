"""Reading the files of a source as they are, and writing their rows: one table, or a part for each file."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import polars as pl

from seaway.artifacts import atomic_write
from seaway.closure import code_of
from seaway.config import Source
from seaway.errors import SeawayError
from seaway.parts import height
from seaway.shelf import Shelf

FILE, ROW, SURPLUS = "__file", "__row", "__surplus"  # SURPLUS: text beyond the last column of a CSV line


def write(name: str, source: Source, files: dict[str, Path], target: Path, shelf: Shelf | None) -> int:
    """Stream the rows to ``target``: one file, or with a shelf a part of each file; returns how many."""
    code = "" if shelf is None else code_of("components.ingest.table")
    schemas = _schemas(name, files, shelf, code)
    texts = _texts(name, source, schemas)
    if shelf is None:
        with atomic_write(target) as temporary:
            frames = [_frame(name, label, file, schemas[label], texts) for label, file in files.items()]
            rows = _sink(name, pl.concat(frames, how="diagonal_relaxed"), files, temporary, target)
            if not rows:
                raise _no_rows(name, files)
        return rows
    shape = _shape(schemas.values(), texts)
    about = [name, [(c, str(t)) for c, t in shape.collect_schema().items()], code]
    rows = 0
    for number, (label, file) in enumerate(files.items()):
        part, key = target / f"{number:06d}.parquet", f"{shelf.key(about, label, shelf.digest(file))}-raw"
        if not shelf.take(key, part):
            with atomic_write(part) as temporary:
                same = pl.concat([shape, _frame(name, label, file, schemas[label], texts)], how="diagonal_relaxed")
                filled = _sink(name, same, {label: file}, temporary, part)
            if not filled:
                part.unlink()
                continue
            shelf.keep(key, part)
        rows += shelf.fact(f"rows of {key}", partial(height, part))
    if not rows:
        raise _no_rows(name, files)
    return rows


def _sink(name: str, frame: pl.LazyFrame, files: dict[str, Path], file: Path, target: Path) -> int:
    try:
        frame.sink_parquet(file, compression="lz4")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _culprit(name, files) or _unreadable(name, target, error) from None
    return height(file)


def _no_rows(name: str, files: dict[str, Path]) -> SeawayError:
    return SeawayError(f"source {name!r}: {', '.join(files)} is empty: columns but no rows. Check how it was exported")


def _culprit(name: str, files: dict[str, Path]) -> SeawayError | None:
    """Which of the files it is that cannot be read: each is tried by itself."""
    for label, file in files.items():
        try:
            _scan(name, label, file).collect(engine="streaming")
        except (pl.exceptions.PolarsError, OSError) as error:
            return _unreadable(name, file, error)
    return None


def _schemas(name: str, files: dict[str, Path], shelf: Shelf | None, code: str) -> dict[str, pl.Schema]:
    """The columns of each file; those of a file that has not changed are remembered, and read of one such only."""
    look = lambda label: _scan(name, label, files[label]).collect_schema()  # noqa: E731
    if shelf is None:
        return {label: look(label) for label in files}
    found: dict[str, pl.Schema] = {}
    schemas = {}
    for label, file in files.items():
        try:
            digest = shelf.digest(file)
        except OSError as error:
            raise _unreadable(name, file, error) from None
        key = f"columns of {shelf.key(code, file.suffix.lower(), digest)}"
        text = shelf.fact(key, lambda label=label: repr(look(label)))
        if text not in found:
            found[text] = look(label)
        schemas[label] = found[text]
    return schemas


def _texts(name: str, source: Source, schemas: dict[str, pl.Schema]) -> set[str]:
    """The columns on whose type the files disagree (text and numbers, times with and without a zone).

    They become text, so that validation sees both. SeawayError for a file that lacks a column of the others.
    """
    wanted = {c for c in source.columns if any(c in schema for schema in schemas.values())}
    for label, schema in schemas.items():
        if lacking := sorted(wanted - set(schema)):
            raise SeawayError(
                f"source {name!r}: file {label} has no column {lacking[0]!r}, other files have it. "
                f"Its columns: {', '.join(c for c in schema if c not in (FILE, ROW, SURPLUS))}"
            )
    types = {column: {schema[column] for schema in schemas.values()} for column in wanted}
    return {c for c, of in types.items() if len(of) > 1 and not all(t.is_numeric() for t in of)}


def _frame(name: str, label: str, file: Path, schema: pl.Schema, texts: set[str]) -> pl.LazyFrame:
    return _scan(name, label, file).with_columns(_as_text(column, schema[column]) for column in sorted(texts))


def _shape(schemas: Iterable[pl.Schema], texts: set[str]) -> pl.LazyFrame:
    """No rows, with the columns that all files have together."""
    frames = {repr(s): pl.LazyFrame(schema=s | dict.fromkeys(texts, pl.String)) for s in schemas}
    return pl.LazyFrame(schema=pl.concat(frames.values(), how="diagonal_relaxed").collect_schema())


def _as_text(column: str, dtype: pl.DataType) -> pl.Expr:
    if isinstance(dtype, pl.Datetime):
        return pl.col(column).dt.to_string("%Y-%m-%d %H:%M:%S%.6f" + ("%:z" if dtype.time_zone else ""))
    return pl.col(column).cast(pl.String)


def _scan(name: str, label: str, file: Path) -> pl.LazyFrame:
    if file.stat().st_size == 0:
        raise SeawayError(f"source {name!r}: file {file} is empty (0 bytes). Remove it or write it again")
    if file.suffix.lower() == ".csv":
        header = _header(name, file)
        frame = pl.scan_csv(
            file,
            schema=dict.fromkeys((*header, SURPLUS), pl.String),
            missing_columns="insert",  # SURPLUS, where no line has more fields than the header
            truncate_ragged_lines=True,  # after SURPLUS, which tells validation of the line
            row_index_name=ROW,
            row_index_offset=1,
        )
    else:
        frame = pl.scan_parquet(file, row_index_name=ROW, row_index_offset=1, hive_partitioning=False)
        try:
            clash = {FILE, ROW} & (set(pl.read_parquet_schema(file)))
        except (pl.exceptions.PolarsError, OSError) as error:
            raise _unreadable(name, file, error) from None
        if clash:
            raise SeawayError(
                f"source {name!r}: file {file} has a column {clash.pop()!r}; rename it, Seaway adds its own"
            )
    return frame.with_columns(pl.lit(label).alias(FILE), pl.col(ROW).cast(pl.Int64))


def _header(name: str, file: Path) -> list[str]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            header = next(csv.reader(stream), [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(name, file, error) from None
    if len(header) == 1 and (other := next((c for c in ";\t|" if c in header[0]), None)):
        raise SeawayError(f"source {name!r}: the fields of {file} are separated by {other!r}; write it with commas")
    if not header or len(set(header)) < len(header):
        raise SeawayError(f"source {name!r}: the first line of {file} must name the columns, each once; it is {header}")
    return header


def _unreadable(name: str, file: Path | str, error: Exception) -> SeawayError:
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return SeawayError(f"source {name!r}: {file} cannot be read: {first}")
