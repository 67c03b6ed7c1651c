"""Prediction logs in object storage: ``<uri>/<deployment>/<day>/<predictor>-<host>-<pid>-<part>.jsonl``.

A server writes a part anew with more lines at its end, until it is large, and then begins the next (see
serving/prediction_log.py). So what was read of an object stays as it is, and only its end is new. Days keep
the lists short; how long objects are kept is the bucket's own rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import time

from seaway.errors import SeawayError
from seaway.storage import Absent, Found, Storage

LATE = 60.0  # seconds: a server's clock may be so much ahead of ours


@dataclass(frozen=True)
class ObjectFolder:
    """A folder of logs in object storage; ``/`` gives one below, as for a path."""

    store: Storage
    uri: str

    def __truediv__(self, name: str) -> ObjectFolder:
        return ObjectFolder(self.store, f"{self.uri}/{name}")

    def __str__(self) -> str:
        return self.uri


def day_of(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


class ObjectTail:
    """As ``seaway.signals.lines.Tail``, for an ObjectFolder: the new whole lines since the last call."""

    def __init__(self, folder: ObjectFolder, since: float = 0.0):
        self.folder, self.since = folder, since
        self._read: dict[str, int] = {}  # bytes of an object that were read, by its URI

    def read(self) -> Iterator[tuple[Path, list[bytes]]]:
        """(name, its new whole lines without their ends). OSError when storage cannot be read."""
        try:
            for day in self._days():
                for found in self.folder.store.find(f"{self.folder.uri}/{day}"):
                    yield from self._new(found)
        except SeawayError as error:
            raise OSError(str(error)) from None

    def _days(self) -> list[str]:
        """Those since ``since``, of which a server wrote."""
        first, last = (datetime.fromtimestamp(at, UTC).date() for at in (self.since, time() + LATE))
        if (last - first).days > 366:  # of no release: all that is there
            return sorted({f.uri.removeprefix(f"{self.folder.uri}/").split("/")[0] for f in self._all()})
        return [(first + timedelta(days=n)).isoformat() for n in range((last - first).days + 1)]

    def _all(self) -> list[Found]:
        return self.folder.store.find(self.folder.uri)

    def _new(self, found: Found) -> Iterator[tuple[Path, list[bytes]]]:
        start = self._read.get(found.uri, 0)
        old = found.written.timestamp() < self.since and not start
        if not found.uri.endswith(".jsonl") or found.size <= start or old:
            return
        try:
            block = self.folder.store.read(found.uri, start=start)
        except Absent:  # removed meanwhile, by the bucket's rule
            return
        end = block.rfind(b"\n") + 1
        if end:
            self._read[found.uri] = start + end
            yield Path(found.uri.rpartition("/")[2]), [line for line in block[:end].split(b"\n") if line]
