"""Reading the files of a source as they are, and writing their rows: one table, or a part for each file."""

from __future__ import annotations

import csv
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
    frames = _frames(name, source, files)
    if shelf is None:
        with atomic_write(target) as temporary:
            rows = _sink(name, pl.concat(frames.values(), how="diagonal_relaxed"), files, temporary, target)
            if not rows:
                raise _no_rows(name, files)
        return rows
    shape = pl.LazyFrame(schema=pl.concat(frames.values(), how="diagonal_relaxed").collect_schema())
    about = [name, [(c, str(t)) for c, t in shape.collect_schema().items()], code_of("components.ingest.table")]
    made = []
    for number, (label, frame) in enumerate(frames.items()):
        part, key = target / f"{number:06d}.parquet", f"{shelf.key(about, label, shelf.digest(files[label]))}-raw"
        if not shelf.take(key, part):
            with atomic_write(part) as temporary:
                same = pl.concat([shape, frame], how="diagonal_relaxed")
                rows = _sink(name, same, {label: files[label]}, temporary, part)
            if not rows:
                part.unlink()
                continue
            shelf.keep(key, part)
        made.append(part)
    if not made:
        raise _no_rows(name, files)
    return pl.scan_parquet(made).select(pl.len()).collect().item()


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


def _frames(name: str, source: Source, files: dict[str, Path]) -> dict[str, pl.LazyFrame]:
    """The rows of each file; a column on whose type the files disagree is text."""
    frames = {label: _scan(name, label, file) for label, file in files.items()}
    schemas = {label: frame.collect_schema() for label, frame in frames.items()}
    wanted = {c for c in source.columns if any(c in schema for schema in schemas.values())}
    for label, schema in schemas.items():
        if lacking := sorted(wanted - set(schema)):
            raise SeawayError(
                f"source {name!r}: file {label} has no column {lacking[0]!r}, other files have it. "
                f"Its columns: {', '.join(c for c in schema if c not in (FILE, ROW, SURPLUS))}"
            )
    for column in wanted:
        types = {schema[column] for schema in schemas.values()}
        if len(types) > 1 and not all(t.is_numeric() for t in types):
            # files disagree on a type (text and numbers, times with and without a zone): let validation see both
            frames = {
                label: frame.with_columns(_as_text(column, schemas[label][column])) for label, frame in frames.items()
            }
    return frames


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
