"""Files that cross rooms: content hashes and writes that are whole or absent."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def content_hash(path: Path, without: Collection[str] = ()) -> str:
    """SHA-256 of a file's bytes, or of a folder's relative names and bytes but those in ``without``, as hex."""
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            if (name := file.relative_to(path).as_posix()) not in without:
                digest.update(f"{name}\0{content_hash(file)}\n".encode())
        return digest.hexdigest()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def record_hash(record: Any) -> str:
    """SHA-256 of a JSON-able record in canonical form (sorted keys, no spaces), as hex."""
    return hashlib.sha256(canonical_json(record).encode()).hexdigest()


def canonical_json(record: Any) -> str:
    return json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False, default=str)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside ``path``; on success it is fsynced and renamed over ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(6)}{path.suffix}")
    temporary.touch(exist_ok=False)  # with the user's own umask, which mkstemp would not heed
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def append_lines(path: Path, lines: Iterable[str]) -> None:
    """Append text lines (without their ends) in one durable write; any number of writers may do so at once.

    What a killed writer left without an end gets one first, so that it spoils no line after it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        size = stream.seek(0, os.SEEK_END)
        torn = bool(size) and os.pread(stream.fileno(), 1, size - 1) != b"\n"
        stream.write(("\n" * torn + "".join(f"{line}\n" for line in lines)).encode())
        stream.flush()
        os.fsync(stream.fileno())
    if new:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names of new files in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, record: Any) -> None:
    """Write a record as indented JSON, atomically; NaN and Infinity are refused with ValueError."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(record, indent=2, sort_keys=True, allow_nan=False, default=str) + "\n")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())
