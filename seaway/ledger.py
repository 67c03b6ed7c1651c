"""The promotion log: append-only JSON lines, each bound to the one before by its hash.

Line: {"seq", "time", "previous", "entry", "hash"} with hash = SHA-256 of the canonical JSON of the other
four. Changing, removing or reordering a line breaks every later one. Cutting whole lines off the end
does not; ``verify`` therefore returns the last hash, to be kept elsewhere where that matters.

An append is one write, fsynced under a file lock. A crash can only tear the last line, which is not
yet acknowledged: the next append moves it to ``<ledger>.torn`` and goes on.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from seaway.artifacts import canonical_json, record_hash, sync_folder
from seaway.errors import SeawayError

START = "0" * 64


def append(path: Path, entry: Mapping[str, Any], *, time: datetime | None = None) -> dict[str, Any]:
    """Add an entry and return its whole line as a record.

    Raises SeawayError when the last whole line is damaged: nothing may be built on it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        stream.seek(0)
        lines, torn = _split(stream.read())
        if torn:
            _set_aside(path, torn)
            stream.truncate(sum(len(line) + 1 for line in lines))
        last = _checked(lines[-1], path, len(lines)) if lines else None
        record = {
            "seq": last["seq"] + 1 if last else 1,
            "time": (time or datetime.now(UTC)).isoformat(timespec="milliseconds"),
            "previous": last["hash"] if last else START,
            "entry": dict(entry),
        }
        # as it will be read back: hashing the parsed form keeps numbers and text exactly comparable
        record = json.loads(canonical_json(record))
        record["hash"] = record_hash(record)
        stream.write(canonical_json(record).encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
    if record["seq"] == 1:
        sync_folder(path.parent)
    return record


def read(path: Path) -> list[dict[str, Any]]:
    """All whole lines, oldest first, unchecked; a torn last line is left out. No file: no lines."""
    if not path.exists():
        return []
    return [_parsed(line, path, i) for i, line in enumerate(_split(path.read_bytes())[0], start=1)]


def verify(path: Path) -> dict[str, Any]:
    """Check every line and link: {"entries": n, "last": hash, "torn": bool}.

    Raises SeawayError naming the first line that is damaged or out of its place.
    """
    lines, torn = _split(path.read_bytes()) if path.exists() else ([], b"")
    previous = START
    for number, line in enumerate(lines, start=1):
        record = _checked(line, path, number)
        if record["seq"] != number or record["previous"] != previous:
            raise SeawayError(f"{path}, line {number}: it does not follow the line before it; lines are missing")
        previous = record["hash"]
    return {"entries": len(lines), "last": previous, "torn": bool(torn)}


def _split(data: bytes) -> tuple[list[bytes], bytes]:
    """Whole lines without their ends, and what comes after the last of them."""
    *lines, torn = data.split(b"\n")
    return lines, torn


def _parsed(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
        if not isinstance(record, dict) or set(record) != {"seq", "time", "previous", "entry", "hash"}:
            raise ValueError("not a ledger line")
    except ValueError as error:
        raise SeawayError(f"{path}, line {number} is damaged ({error}): restore the file from a copy") from None
    return record


def _checked(line: bytes, path: Path, number: int) -> dict[str, Any]:
    record = _parsed(line, path, number)
    if record_hash({k: v for k, v in record.items() if k != "hash"}) != record["hash"]:
        raise SeawayError(f"{path}, line {number} was changed: its hash does not fit. Restore the file from a copy")
    return record


def _set_aside(path: Path, torn: bytes) -> None:
    with path.with_name(path.name + ".torn").open("ab") as stream:
        stream.write(torn + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
