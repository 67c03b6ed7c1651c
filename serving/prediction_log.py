"""The prediction log of a server process: one JSON line an answered row, by which scores and labels are joined.

Line: {"id", "t", "p", "d", "v"}: the request's id (``/<i>`` added for row i > 0 of a batch), seconds since
the epoch, probability, decision (0 or 1) and the model's version. A request costs one append in memory; a
thread writes at most a second later. What cannot be written is counted and said once: no request fails for
it, and a canary is not promoted on pairs that are not there. Standard library alone.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from time import time

log = logging.getLogger(__name__)

EVERY = 0.5  # seconds between writes
BUFFER = 20_000  # lines that wait at the most, such as for a disk that hangs
LARGEST = 256 << 20  # bytes of a file; then the next one is begun: <file>-1.jsonl, <file>-2.jsonl, ...
KEPT = 4  # files of a process; 27 hours of 100 rows a second


def file_of(folder: Path) -> Path:
    """This process's file: ``folder/<deployment>/<predictor>-<host>-<pid>.jsonl``, names as Seldon sets them."""
    deployment, predictor = (os.environ.get(name) or "unnamed" for name in ("SELDON_DEPLOYMENT_ID", "PREDICTOR_ID"))
    return Path(folder) / deployment / f"{predictor}-{socket.gethostname()}-{os.getpid()}.jsonl"


def _slice(slices: Sequence[str], row: int) -> str:
    return f',"s":{json.dumps(slices[row])}' if slices else ""


class AnswerLog:
    """Appends to one file from a thread of its own. ``lost`` gets the number of lines that could not be written."""

    def __init__(
        self,
        path: Path,
        version: str,
        lost: Callable[[int], object] = lambda lines: None,
        *,
        every: float = EVERY,
        largest: int = LARGEST,
    ):
        self.path, self._lost, self._every, self._largest = Path(path), lost, every, largest
        self._version = json.dumps(version)
        self._lines: list[str] = []
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._torn = self._said = False
        self._part = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()
        atexit.register(self.close)  # Seldon switches multiprocessing's own finalizers off in its workers

    def add(self, identity: str, scores: Iterable[float], decisions: Iterable[int], slices: Sequence[str] = ()) -> None:
        """The rows of one answered request; one without an id cannot be joined and is left out.

        ``slices``: the slice whose model scored each row, where the bundle has slices; it becomes "s".
        """
        if not identity:
            return
        at = time()
        lines = [
            f'{{"id":{json.dumps(f"{identity}/{i}" if i else identity)},"t":{at:.3f},"p":{score:.9g},"d":{decision},'
            f'"v":{self._version}{_slice(slices, i)}}}\n'
            for i, (score, decision) in enumerate(zip(scores, decisions, strict=True))
        ]
        with self._lock:
            full = len(self._lines) + len(lines) > BUFFER
            if not full:
                self._lines += lines
        if full:
            self._drop(len(lines), f"{BUFFER} lines wait to be written")

    def flush(self) -> None:
        """Write what waits; never raises."""
        with self._writing:
            with self._lock:
                lines, self._lines = self._lines, []
            if not lines:
                return
            data = ("\n" * self._torn + "".join(lines)).encode()
            written, problem = 0, ""
            try:
                written = self._append(data)
            except OSError as error:
                problem = str(error)
            # a torn line is ended before the next one, so that it spoils no other
            whole = data[:written].count(b"\n") - int(self._torn and written > 0)
            self._torn = data[:written][-1:] != b"\n" if written else self._torn
            if whole < len(lines):
                self._drop(len(lines) - whole, problem or "the disk took only a part")

    def _append(self, data: bytes) -> int:
        """Bytes of ``data`` that are in the file now."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while self._size() + len(data) > self._largest and self._size():
            self._part += 1
            if self._part >= KEPT:
                self._file(self._part - KEPT).unlink(missing_ok=True)
        handle = os.open(self._file(self._part), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            return os.write(handle, data)
        finally:
            os.close(handle)

    def _size(self) -> int:
        try:
            return self._file(self._part).stat().st_size
        except FileNotFoundError:
            return 0

    def _file(self, part: int) -> Path:
        return self.path.with_stem(f"{self.path.stem}-{part}") if part else self.path

    def close(self) -> None:
        """Write what waits and end the thread."""
        self._stopped.set()
        self.flush()
        atexit.unregister(self.close)

    def _run(self) -> None:
        while not self._stopped.wait(self._every):
            self.flush()

    def _drop(self, lines: int, why: str) -> None:
        self._lost(lines)
        if not self._said:
            self._said = True
            log.warning("the prediction log %s loses lines: %s; requests are answered as before", self.path, why)
