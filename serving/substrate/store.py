"""The released objects as files: compare-and-swap on resourceVersion, whole or absent after any crash."""

from __future__ import annotations

import copy
import fcntl
import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seaway.artifacts import canonical_json, read_json, sync_folder, write_json
from serving.manifests import validate
from serving.substrate.base import Conflict, NotFound


class ObjectStore:
    """``folder/<name>.json``; every change happens under one lock, reads need none."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)

    def create(self, obj: dict[str, Any]) -> dict[str, Any]:
        validate(obj)
        with self._lock():
            path = self._path(obj["metadata"]["name"])
            if path.exists():
                raise Conflict(f"{obj['metadata']['name']!r} exists already: read it and write it")
            return self._put(obj, uid=str(uuid.uuid4()), generation=1, previous=0)

    def read(self, name: str) -> dict[str, Any]:
        try:
            return read_json(self._path(name))
        except FileNotFoundError:
            raise NotFound(f"there is no released object {name!r} in {self.folder}") from None

    def write(self, obj: dict[str, Any]) -> dict[str, Any]:
        validate(obj)
        wanted = obj["metadata"]
        with self._lock():
            current = self.read(wanted["name"])
            held = current["metadata"]
            for key in ("resourceVersion", "uid"):
                if wanted.get(key) != held[key]:
                    raise Conflict(
                        f"{wanted['name']!r} was changed by someone else ({key} {held[key]}, written {wanted.get(key)})"
                    )
            if canonical_json(obj) == canonical_json(current):
                return current
            changed = canonical_json(obj["spec"]) != canonical_json(current["spec"])
            generation = held["generation"] + int(changed)
            return self._put(obj, held["uid"], generation, int(held["resourceVersion"]))

    def delete(self, name: str) -> None:
        with self._lock():
            self._path(name).unlink(missing_ok=True)
            sync_folder(self.folder)

    def names(self) -> list[str]:
        return sorted(p.stem for p in self.folder.glob("[!.]*.json"))

    def mark(self) -> tuple[tuple[str, int, int], ...]:
        """Changes whenever an object does."""
        found = []
        for path in sorted(self.folder.glob("[!.]*.json")):
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue
            found.append((path.name, stat.st_ino, stat.st_mtime_ns))
        return tuple(found)

    def _put(self, obj: dict[str, Any], uid: str, generation: int, previous: int) -> dict[str, Any]:
        stored = copy.deepcopy(obj)
        # from the clock, so that a name deleted and created again never has an old version
        version = max(previous + 1, time.time_ns())
        stored["metadata"] |= {"uid": uid, "generation": generation, "resourceVersion": str(version)}
        stored = json.loads(json.dumps(stored, allow_nan=False))
        write_json(self._path(obj["metadata"]["name"]), stored)
        sync_folder(self.folder)
        return stored

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    @contextmanager
    def _lock(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("a") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield
