"""Parts of the last run of a step, kept by all that they were made of, so that the next run takes them over.

A part is kept and taken over by a hard link: it costs neither space nor time. What a run has not used is gone when it
ends, so that the shelf never holds more than one result. Layout: ``<key>.parquet`` and ``shelf.json`` below its folder.
"""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import Any

from seaway.artifacts import content_hash, read_json, record_hash, write_json
from seaway.cache import place

INDEX = "shelf.json"


class Shelf:
    """The shelf below ``folder``; None: nothing is kept, and nothing is ever there.

    A kept file whose size or time of change is no longer what it was is not taken over.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._used: dict[str, list[int]] = {}
        self._hashes: dict[str, str] = {}
        self.taken = self.made = 0
        record: dict[str, Any] = {}
        if folder is not None:
            try:
                record = read_json(folder / INDEX)
            except (FileNotFoundError, ValueError):
                shutil.rmtree(folder, ignore_errors=True)  # files that nothing vouches for
        self._kept: dict[str, list[int]] = record.get("kept", {})
        self._known: dict[str, str] = record.get("hashes", {})

    @staticmethod
    def key(*ingredients: Any) -> str:
        """The key of a part from JSON-able records of all that decides it."""
        return record_hash(ingredients)[:32]

    def digest(self, file: Path) -> str:
        """The content hash of ``file``; that of a file which has not changed since the last run is remembered."""
        status = file.stat()
        identity = f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"
        found = self._hashes.get(identity) or self._known.get(identity) or content_hash(file)
        with self._lock:
            self._hashes[identity] = found
        return found

    def has(self, key: str) -> bool:
        """Whether the part can be taken over."""
        return self._folder is not None and key in self._kept and self._kept[key] == _mark(self._file(key))

    def take(self, key: str, target: Path) -> bool:
        """Make ``target`` the kept part, if there is one."""
        if not self.has(key):
            return False
        try:
            os.link(self._file(key), target)  # what is nearly always enough
        except OSError:
            place(self._file(key), target)
            if not target.exists():
                return False  # another run has just cleared it away
        with self._lock:
            self._used[key] = self._kept[key]
            self.taken += 1
        return True

    def keep(self, key: str, made: Path) -> None:
        """Keep the part that was made."""
        with self._lock:
            self.made += 1
        if self._folder is None:
            return
        place(made, self._file(key))
        mark = _mark(self._file(key))
        with self._lock:
            self._used[key] = self._kept[key] = mark

    def close(self) -> None:
        """The run has ended well: forget what it has not used."""
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        write_json(self._folder / INDEX, {"kept": self._used, "hashes": self._hashes})
        names = {self._file(key).name for key in self._used} | {INDEX}
        for file in self._folder.iterdir():
            if file.name not in names and not file.name.startswith("."):
                file.unlink(missing_ok=True)

    def _file(self, key: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{key}.parquet"


def _mark(file: Path) -> list[int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
