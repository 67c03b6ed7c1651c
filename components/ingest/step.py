"""Step: files or a generator -> raw rows of every source, as found, each with the place it came from.

Nothing is judged here: text from CSV stays text, so that validation can say what a bad value was.
"""

from __future__ import annotations

import csv
import glob
import tempfile
from pathlib import Path
from typing import Any

import polars as pl

from components.ingest.remote import bring
from seaway.artifacts import atomic_write
from seaway.config import Source, Workload
from seaway.errors import SeawayError
from seaway.hooks import resolve
from seaway.storage import Storage, is_uri

FILE, ROW, SURPLUS = "__file", "__row", "__surplus"  # SURPLUS: text beyond the last column of a CSV line
KINDS = {".parquet": "Parquet", ".csv": "CSV"}


def ingest(workload: Workload, root: Path, scale: str, out: Path, storage: Storage | None = None) -> dict[str, Any]:
    """Write ``out/<source>.parquet`` for every source of the workload.

    A source with a ``path`` (file, folder or glob, Parquet or CSV, relative to ``root``; or such a URI, read by
    ``storage`` where that is of its kind) is read from there, else its generator draws it at
    ``workload.scales[scale]``. Added columns: ``__file`` (name below the path given) and ``__row`` (1 is the
    file's first row of data). CSV columns are strings.
    Returns {source: {"rows", "files"}}. Raises SeawayError for an unknown scale, no files, an unreadable
    or empty file, Parquet and CSV in one source, or files of one source that differ in columns.
    """
    out.mkdir(parents=True, exist_ok=True)
    summary = {}
    for name, source in workload.sources.items():
        target = out / f"{name}.parquet"
        if source.path and is_uri(source.path):
            summary[name] = _from_storage(name, source, storage, target)
        elif source.path:
            files = find(name, source.path, root)
            rows = _write(name, _concat(name, source, files), files, target)
            summary[name] = {"rows": rows, "files": list(files)}
        else:
            rows = _generate(workload, name, source, root, scale, target)
            summary[name] = {"rows": rows, "files": [str(source.generator)]}
    return summary


def _from_storage(name: str, source: Source, storage: Storage | None, target: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=target.parent) as folder:
        try:
            files = find(name, str(bring(name, str(source.path), storage, Path(folder))), Path(folder))
            return {"rows": _write(name, _concat(name, source, files), files, target), "files": list(files)}
        except SeawayError as error:  # where it lay for the time being says nothing
            raise SeawayError(str(error).replace(folder, str(source.path))) from None


def find(name: str, path: str, root: Path) -> dict[str, Path]:
    """The files of one kind that ``path`` names, sorted: {name below the given path: file}."""
    given = Path(path).expanduser()
    given = given if given.is_absolute() else root / given
    if given.is_file():
        files, base = [given], given.parent
    elif given.is_dir():
        files, base = [p for p in given.rglob("*") if _is_data(p, given)], given
    else:
        base = _fixed_part(given)
        matches = (Path(p) for p in glob.glob(str(given), recursive=True))
        files = [p for p in matches if p.is_file() and _is_data(p, base)]
    if not files:
        raise SeawayError(
            f"source {name!r}: no Parquet or CSV file at {given}. Give a file, a folder or a glob of files "
            "whose names end in .parquet or .csv"
        )
    kinds = sorted({p.suffix.lower() for p in files})
    if unknown := [k for k in kinds if k not in KINDS]:
        raise SeawayError(
            f"source {name!r}: {given} ends in {unknown[0] or 'no suffix'!r}; what can be read is .parquet and .csv"
        )
    if len(kinds) > 1:
        counts = " and ".join(f"{sum(p.suffix.lower() == k for p in files)} {KINDS[k]}" for k in kinds)
        raise SeawayError(
            f"source {name!r}: {given} holds {counts} files, perhaps the same rows twice. Name one kind, "
            f"such as {base / '**' / '*.parquet'}"
        )
    return {p.relative_to(base).as_posix(): p for p in sorted(files)}


def _is_data(file: Path, base: Path) -> bool:
    hidden = any(part.startswith((".", "_")) for part in file.relative_to(base).parts)  # such as _SUCCESS
    return file.suffix.lower() in KINDS and not hidden and file.is_file()


def _fixed_part(pattern: Path) -> Path:
    parts = []
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            break
        parts.append(part)
    return Path(*parts)


def _concat(name: str, source: Source, files: dict[str, Path]) -> pl.LazyFrame:
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
    return pl.concat(frames.values(), how="diagonal_relaxed")


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


def _write(name: str, frame: pl.LazyFrame, files: dict[str, Path], target: Path) -> int:
    """Stream the rows to ``target``; returns how many."""
    with atomic_write(target) as temporary:
        try:
            frame.sink_parquet(temporary, compression="lz4")
        except (pl.exceptions.PolarsError, OSError) as error:
            raise _culprit(name, files) or _unreadable(name, target, error) from None
        rows = pl.scan_parquet(temporary).select(pl.len()).collect().item()
        if not rows:
            raise SeawayError(
                f"source {name!r}: {', '.join(files)} is empty: columns but no rows. Check how it was exported"
            )
    return rows


def _culprit(name: str, files: dict[str, Path]) -> SeawayError | None:
    """Which of the files it is that cannot be read: each is tried by itself."""
    for label, file in files.items():
        try:
            _scan(name, label, file).collect(engine="streaming")
        except (pl.exceptions.PolarsError, OSError) as error:
            return _unreadable(name, file, error)
    return None


def _generate(workload: Workload, name: str, source: Source, root: Path, scale: str, target: Path) -> int:
    if not source.generator:
        raise SeawayError(f"source {name!r} has neither a path nor a generator: give one in the workload's file")
    if scale not in workload.scales:
        known = ", ".join(workload.scales) or "none"
        wrong = f"has no scale {scale!r}" if scale else "does not say which scale to generate"
        raise SeawayError(
            f"workload {workload.name!r} {wrong}; it knows: {known}. Choose one by --scale, or by `scale` in its file"
        )
    draw = resolve(source.generator, root)
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=target.parent) as folder:
        drawn = Path(folder) / f"{name}.parquet"
        draw(dict(workload.scales[scale]), drawn)
        if not drawn.exists():
            raise SeawayError(f"source {name!r}: generator {source.generator!r} wrote no file at the path it was given")
        frame = _scan(name, source.generator, drawn)
        return _write(name, frame, {source.generator: drawn}, target)
