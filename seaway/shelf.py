"""Parts of the last run of a step, kept by all that they were made of, so that the next run takes them over.

A part is kept and taken over by a hard link: it costs neither space nor time. What a run has not used is gone when it
ends, so that the shelf never holds more than one result. Layout: ``<key>.parquet`` and ``shelf.json`` below its folder.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seaway.artifacts import content_hash, read_json, record_hash, write_json
from seaway.cache import place
from seaway.parts import height

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
        self._facts: dict[str, Any] = {}
        self.taken = self.made = 0
        record: dict[str, Any] = {}
        if folder is not None:
            try:
                record = read_json(folder / INDEX)
            except (FileNotFoundError, ValueError):
                shutil.rmtree(folder, ignore_errors=True)  # files that nothing vouches for
        self._kept: dict[str, list[int]] = record.get("kept", {})
        self._known: dict[str, str] = record.get("hashes", {})
        self._told: dict[str, Any] = record.get("facts", {})

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

    def fact(self, key: str, find: Callable[[], Any]) -> Any:
        """What ``find`` gives: something JSON-able about content that ``key`` names, found once and then remembered.

        The key is of all that decides it, such as a ``digest``, never a name: so nothing remembered can be out of date.
        """
        if key in self._facts:
            return self._facts[key]
        found = self._told[key] if key in self._told else find()
        with self._lock:
            self._facts[key] = found
        return found

    def rows(self, file: Path) -> int:
        """How many rows a Parquet file has; of a file that has not changed it is remembered."""
        return self.fact(f"rows of {self.digest(file)}", lambda: height(file))

    def has(self, key: str) -> bool:
        """Whether the part can be taken over."""
        return key in self._kept and self._kept[key] == _mark(self._name(key))

    def take(self, key: str, target: Path) -> bool:
        """Make ``target`` the kept part, if there is one."""
        return self.take_all({key: target})

    def take_all(self, targets: dict[str, Path]) -> bool:
        """Make each target the kept part of its key if all of them are there; else none."""
        if self._folder is None or not all(map(self.has, targets)):
            return False
        for key, target in targets.items():
            try:
                os.link(self._name(key), target)  # what is nearly always enough
            except OSError:
                place(self._file(key), target)
                if not target.exists():  # another run has just cleared it away
                    for made in targets.values():  # who makes them anew must not write into kept ones
                        made.unlink(missing_ok=True)
                    return False
        with self._lock:
            self._used |= {key: self._kept[key] for key in targets}
            self.taken += len(targets)
        return True

    def keep(self, key: str, made: Path) -> None:
        """Keep the part that was made."""
        with self._lock:
            self.made += 1
        if self._folder is None:
            return
        place(made, self._file(key))
        mark = _mark(self._name(key))
        with self._lock:
            self._used[key] = self._kept[key] = mark

    def close(self) -> None:
        """The run has ended well: forget what it has not used."""
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        write_json(self._folder / INDEX, {"kept": self._used, "hashes": self._hashes, "facts": self._facts})
        names = {f"{key}.parquet" for key in self._used} | {INDEX}
        for file in self._folder.iterdir():
            if file.name not in names and not file.name.startswith("."):
                file.unlink(missing_ok=True)

    def _file(self, key: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{key}.parquet"

    def _name(self, key: str) -> str:
        """As ``_file``, as text: asked for each part."""
        return f"{self._folder}/{key}.parquet"


def _mark(file: str) -> list[int] | None:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
