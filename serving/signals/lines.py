"""Files of JSON lines that others append to, read once each: only what is new, and only whole lines."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BLOCK = 4 << 20  # bytes read at a time; a line is shorter


@dataclass
class _Place:
    file: tuple[int, int]  # device and inode: another file of the same name is another
    offset: int = 0


class Tail:
    """The new lines of ``folder/*.jsonl`` since the last call. A torn last line waits until it is whole.

    A file that became shorter or was replaced is read again from its start: who uses the lines must bear the
    same line twice. A folder that is not there yet has no lines. Files that nobody wrote to after ``since``
    (seconds since the epoch) are not read.
    """

    def __init__(self, folder: Path, since: float = 0.0):
        self.folder, self.since = Path(folder), since
        self._places: dict[str, _Place] = {}

    def read(self) -> Iterator[tuple[Path, list[bytes]]]:
        """(file, its new whole lines without their ends), a block at a time. OSError when one cannot be read."""
        for path in sorted(self.folder.glob("[!.]*.jsonl")):
            yield from self._new(path)

    def _new(self, path: Path) -> Iterator[tuple[Path, list[bytes]]]:
        try:
            stream = path.open("rb")
        except FileNotFoundError:
            return
        with stream:
            found = os.fstat(stream.fileno())
            if found.st_mtime < self.since:
                return
            file, place = (found.st_dev, found.st_ino), self._places.get(path.name)
            if place is None or place.file != file or found.st_size < place.offset:
                place = self._places[path.name] = _Place(file)
            if found.st_size == place.offset:
                return
            stream.seek(place.offset)
            while block := stream.read(BLOCK):
                end = block.rfind(b"\n") + 1
                if not end and len(block) < BLOCK:
                    return  # torn: it waits
                # without any end in a whole block it is no line of ours: left out as one broken line
                whole = block[:end] if end else b"?"
                place.offset += end or len(block)
                stream.seek(place.offset)
                yield path, [line for line in whole.split(b"\n") if line]
