"""The prediction log of a server that has no disk to share: parts in object storage.

Lines are gathered in memory. Every few seconds the part that is being filled is written anew, whole; a full one
is left and the next begun. Storage that does not answer is tried again with the next lines; only when too much
waits are lines dropped and counted. Where they lie: serving/signals/objects.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from time import time

from seaway.errors import SeawayError
from seaway.storage import Storage
from serving.prediction_log import AnswerLog, file_of
from serving.signals.objects import day_of

log = logging.getLogger(__name__)

EVERY = 3.0  # seconds between writes
PART = 1 << 20  # bytes of an object, about; then the next one is begun
WAITING = 8 << 20  # bytes that wait for storage at the most


def log_of(where: str, version: str, lost: Callable[[int], object]) -> AnswerLog:
    """The log of this process for the class parameter ``log``: a folder, or the URI of one."""
    if "://" in where:
        return ObjectLog(Storage.by_environment(where), version, lost)
    return AnswerLog(file_of(Path(where)), version, lost)


class ObjectLog(AnswerLog):
    """Writes below ``store.uri``."""

    def __init__(
        self,
        store: Storage,
        version: str,
        lost: Callable[[int], object] = lambda lines: None,
        *,
        every: float = EVERY,
        part: int = PART,
        waiting: int = WAITING,
    ):
        self._store, self._part_size, self._waiting = store, part, waiting
        self._held, self._unsent, self._uri, self._told = b"", 0, "", False
        self._began = int(time())  # a container that restarts has the same host and process id
        super().__init__(file_of(Path()), version, lost, every=every)

    def flush(self) -> None:
        """Write what waits; never raises."""
        super().flush()
        with self._writing:
            if self._unsent:
                self._send()

    def close(self) -> None:
        super().close()
        with self._writing:
            if self._unsent:
                self._drop(self._unsent, f"{self._uri} was not written before the end")
                self._unsent = 0

    def _append(self, data: bytes) -> int:
        """Take the lines in; all of them, or OSError where too much waits already."""
        if self._unsent and len(self._held) + len(data) > self._waiting:
            raise OSError(f"storage has not taken {self._unsent} lines")
        day = self._store.join(self.path.parent.name, day_of(time()))
        full = len(self._held) >= self._part_size or not self._uri.startswith(day)
        if full and not self._unsent:
            self._uri, self._held = f"{day}/{self.path.stem}-{self._began}-{self._part}.jsonl", b""
            self._part += 1
        self._held += data
        self._unsent += data.count(b"\n")
        return len(data)

    def _send(self) -> None:
        try:
            self._store.write(self._uri, self._held)
            self._unsent, self._told = 0, False
        except SeawayError as error:
            if not self._told:
                self._told = True
                log.warning("the prediction log waits: %s; it is tried again", error)
