"""Files of a folder of this machine, or below a URI of object storage, by the same few methods."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from seaway.artifacts import atomic_write, content_hash
from seaway.config import Config
from seaway.errors import SeawayError
from seaway.object_store import parts
from seaway.storage import Absent, Storage, is_uri


@dataclass(frozen=True)
class Place:
    """``root``: an absolute path, or a URI without the last "/". Plain values: workers get it as it is."""

    root: str
    endpoint: str | None = None
    region: str | None = None

    @classmethod
    def of(cls, config: Config, where: str) -> Place:
        """For a path or URI as a person writes it; ``file:///…`` is a folder of this machine."""
        if not is_uri(where):
            return cls(str(Path(where).expanduser().absolute()))
        scheme, _, path = parts(where)
        if scheme == "file":
            return cls(f"/{path}")
        store = Storage.holding(config, where)
        return cls(where.rstrip("/"), store.endpoint, store.region)

    @property
    def remote(self) -> bool:
        return is_uri(self.root)

    def name(self, name: str = "") -> str:
        """Path or URI of a file, for a person; of the place itself without a name."""
        return f"{self.root}/{name}" if name else self.root

    def source(self, name: str) -> Path | BinaryIO:
        """What Polars reads; the bytes of an object are brought here first. Raises Absent where there is none."""
        if self.remote:
            return io.BytesIO(self._store.read(self.name(name)))
        if not Path(self.name(name)).is_file():
            raise Absent(f"{self.name(name)} does not exist")
        return Path(self.name(name))

    def read(self, name: str) -> bytes | None:
        """A file's bytes; None where there is none."""
        try:
            return self._store.read(self.name(name)) if self.remote else Path(self.name(name)).read_bytes()
        except (Absent, FileNotFoundError, NotADirectoryError):
            return None

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole or not at all, over one that is there. Raises SeawayError that says where and why."""
        if self.remote:
            self._store.write(self.name(name), data)
            return
        path = Path(self.name(name))
        try:
            with atomic_write(path) as temporary:
                temporary.write_bytes(data)
        except OSError as error:
            raise SeawayError(f"{path} cannot be written: {error.strerror}; make room, or give another --out") from None

    def check(self) -> None:
        """SeawayError now, and not after the first partition, where nothing can be written."""
        self.write(".writable", b"")
        self.remove(".writable")

    def remove(self, name: str) -> None:
        if self.remote:
            self._store.remove(self.name(name))
        else:
            Path(self.name(name)).unlink(missing_ok=True)

    def found(self, below: str = "") -> dict[str, str]:
        """Files below, by name, with a word for their content: an object's tag, for a file its size."""
        if not self.remote:
            root = Path(self.root)
            files = sorted(p for p in (root / below).rglob("*") if p.is_file() and not p.name.startswith("."))
            return {p.relative_to(root).as_posix(): str(p.stat().st_size) for p in files}
        return {
            item.uri.removeprefix(f"{self.root}/"): item.tag or f"{item.size} bytes of {item.written.isoformat()}"
            for item in self._store.find(self.name(below))
        }

    def sha256(self, name: str) -> str:
        """Of a file's bytes; "" where there is none."""
        if not self.remote:
            path = Path(self.name(name))
            return content_hash(path) if path.is_file() else ""
        data = self.read(name)
        return "" if data is None else hashlib.sha256(data).hexdigest()

    def clear(self, below: str) -> None:
        """Remove what killed writers have left."""
        if not self.remote:
            for file in Path(self.name(below)).glob(".*"):
                file.unlink(missing_ok=True)

    @property
    def _store(self) -> Storage:
        return Storage(self.root, self.endpoint, self.region)
