"""Step: files or a generator -> raw rows of every source, as found, each with the place it came from.

Nothing is judged here: text from CSV stays text, so that validation can say what a bad value was.
"""

from __future__ import annotations

import glob
import tempfile
from pathlib import Path
from typing import Any

from components.ingest.remote import bring
from components.ingest.table import FILE, ROW, SURPLUS, write
from components.ray.spread import in_parts, shelf_of
from seaway.config import Config, Source, Workload
from seaway.errors import SeawayError
from seaway.hooks import resolve
from seaway.shelf import Shelf
from seaway.storage import Storage, is_uri

__all__ = ["FILE", "ROW", "SURPLUS", "find", "ingest"]

KINDS = {".parquet": "Parquet", ".csv": "CSV"}


def ingest(
    workload: Workload,
    root: Path,
    scale: str,
    out: Path,
    storage: Storage | None = None,
    config: Config | None = None,
) -> dict[str, Any]:
    """Write ``out/<source>.parquet`` for every source of the workload.

    A source with a ``path`` (file, folder or glob, Parquet or CSV, relative to ``root``; or such a URI, read by
    ``storage`` where that is of its kind) is read from there, else its generator draws it at
    ``workload.scales[scale]``. Added columns: ``__file`` (name below the path given) and ``__row`` (1 is the
    file's first row of data). CSV columns are strings. With a ``config`` whose ``data.engine`` is not memory, it
    is a folder with a numbered part for each file that has rows, and parts of unchanged files are taken over.
    Returns {source: {"rows", "files"}}. Raises SeawayError for an unknown scale, no files, an unreadable
    or empty file, Parquet and CSV in one source, or files of one source that differ in columns.
    """
    out.mkdir(parents=True, exist_ok=True)
    shelf = shelf_of(config, "ingest") if config is not None and in_parts(config) else None
    summary = {}
    for name, source in workload.sources.items():
        target = out / f"{name}.parquet"
        if source.path and is_uri(source.path):
            summary[name] = _from_storage(name, source, storage, target, shelf)
        elif source.path:
            files = find(name, source.path, root)
            summary[name] = {"rows": write(name, source, files, target, shelf), "files": list(files)}
        else:
            rows = _generate(workload, name, source, root, scale, target, shelf)
            summary[name] = {"rows": rows, "files": [str(source.generator)]}
    if shelf is not None:
        shelf.close()
    return summary


def _from_storage(
    name: str, source: Source, storage: Storage | None, target: Path, shelf: Shelf | None
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=target.parent) as folder:
        try:
            files = find(name, str(bring(name, str(source.path), storage, Path(folder))), Path(folder))
            return {"rows": write(name, source, files, target, shelf), "files": list(files)}
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


def _generate(
    workload: Workload, name: str, source: Source, root: Path, scale: str, target: Path, shelf: Shelf | None
) -> int:
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
        return write(name, source, {source.generator: drawn}, target, shelf)
