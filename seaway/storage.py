"""Object storage: single objects, and folders that are published whole or not at all.

URIs: ``s3://bucket/…``, ``gs://bucket/…``, ``file:///…``. A published folder is its files below one URI and,
written last, a list of them with their hashes: a reader finds all of it or nothing. Credentials are the usual
ones of the cloud's own libraries: the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or
GOOGLE_APPLICATION_CREDENTIALS) or the pod's workload identity; they are never part of the configuration.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seaway.artifacts import atomic_write
from seaway.errors import SeawayError
from seaway.object_store import Absent, client, explained, is_name, parts, quoted

if TYPE_CHECKING:
    from seaway.config import Config

LIST = ".seaway.json"  # the list of a published folder's files
_AT_ONCE = 8  # transfers
ENDPOINT, REGION = "AWS_ENDPOINT_URL", "AWS_REGION"  # as the cloud's own programs call them


def is_uri(where: str) -> bool:
    return "://" in where


@dataclass(frozen=True)
class Found:
    """One object: its URI, size in bytes, time of the last write, entity tag."""

    uri: str
    size: int
    written: datetime
    tag: str  # changes with the bytes, where the service gives one


@dataclass(frozen=True)
class Storage:
    """What is below ``uri``. Methods take any URI of the same service and raise SeawayError."""

    uri: str
    endpoint: str | None = None
    region: str | None = None

    def __post_init__(self) -> None:
        parts(self.uri)

    @classmethod
    def of(cls, config: Config) -> Storage | None:
        """The environment's storage; None where it has none, so everything is below home."""
        section = config.storage
        return cls(section.uri.rstrip("/"), section.endpoint, section.region) if section.uri else None

    @classmethod
    def holding(cls, config: Config, uri: str) -> Storage:
        """What reads ``uri``: the environment's service for its own kind of URI, else the cloud's."""
        own = cls.of(config)
        return own if own and parts(own.uri)[0] == parts(uri)[0] else cls(uri)

    @classmethod
    def by_environment(cls, uri: str) -> Storage:
        """For a process that has no configuration: endpoint and region as the environment names them."""
        return cls(uri.rstrip("/"), os.environ.get(ENDPOINT), os.environ.get(REGION))

    def join(self, *parts: str) -> str:
        return "/".join([self.uri.rstrip("/"), *(part.strip("/") for part in parts)])

    # single objects

    def read(self, uri: str, *, start: int = 0) -> bytes:
        """An object's bytes, those from ``start`` on; Absent where there is none."""
        import obstore

        store, path = self._place(uri)
        with explained(uri):
            options = {"range": {"offset": start}} if start else None
            return bytes(obstore.get(store, path, options=options).bytes())

    def write(self, uri: str, data: bytes, *, new: bool = False) -> None:
        """Write an object whole; ``new``: refuse, with SeawayError, where one is there already."""
        import obstore

        store, path = self._place(uri)
        with explained(uri):
            obstore.put(store, path, data, mode="create" if new else "overwrite")

    def upload(self, file: Path, uri: str) -> None:
        """Write a file's bytes as an object; a large one in parts."""
        import obstore

        store, path = self._place(uri)
        with explained(uri):
            obstore.put(store, path, file)

    def download(self, uri: str, file: Path) -> str:
        """Write an object's bytes to ``file``, in blocks, and give their SHA-256; Absent where there is none.

        The file is written whole, or stays as it was.
        """
        import obstore

        store, path = self._place(uri)
        with explained(uri):
            blocks = iter(obstore.get(store, path).stream(min_chunk_size=4 << 20))
        digest = hashlib.sha256()
        try:
            with atomic_write(file) as temporary, temporary.open("wb") as stream:
                while True:
                    with explained(uri):
                        block = next(blocks, None)
                    if block is None:
                        break
                    stream.write(block)
                    digest.update(block)
        except OSError as error:
            raise SeawayError(f"{file} cannot be written ({error.strerror}): {uri} was to be kept there") from None
        return digest.hexdigest()

    def exists(self, uri: str) -> bool:
        """Whether an object or a whole published folder is there."""
        return self._size(f"{uri.rstrip('/')}/{LIST}") is not None or self._size(uri) is not None

    def find(self, uri: str) -> list[Found]:
        """All objects below ``uri``, by name; a published folder's list is not among them."""
        import obstore

        store, path = self._place(uri)
        with explained(uri):
            listed = [item for page in obstore.list(store, path) for item in page]
        base = uri.rstrip("/")
        found = [(item["path"].removeprefix(path).lstrip("/"), item) for item in listed]
        return [
            Found(f"{base}/{quoted(base, name)}", int(item["size"]), item["last_modified"], item["e_tag"] or "")
            for name, item in sorted(found, key=lambda pair: pair[0])
            if name and name.rpartition("/")[2] != LIST
        ]

    def remove(self, uri: str) -> None:
        """Remove an object, or all objects below; what is not there is no error."""
        import obstore

        store, path = self._place(uri)
        below = f"{uri.rstrip('/')}/{LIST}"
        found = [below] if self._size(below) is not None else []  # first: then the folder is absent as a whole
        for name in [*found, *(item.uri for item in self.find(uri))] or [uri]:
            store, path = self._place(name)
            try:
                with explained(name):
                    obstore.delete(store, path)
            except Absent:
                pass

    # folders

    def publish(self, folder: Path, uri: str, *, replace: bool = False) -> None:
        """Store all files below ``folder``; the list of them is written last.

        What is there already is left alone when it has the same files. Raises SeawayError when it has others,
        unless ``replace``; and for an empty folder, a symbolic link or a special file in it.
        """
        folder, base = Path(folder), uri.rstrip("/")
        files = {path.relative_to(folder).as_posix(): path for path in _plain_files(folder)}
        listed = {name: _hashed(path) for name, path in files.items()}
        there = self._listed(base)
        if there == listed and not replace:
            return
        if there is not None and not replace:
            raise SeawayError(f"{base} holds other files already: what is published there never changes")
        if there is not None:
            self.remove(f"{base}/{LIST}")
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda item: self.upload(item[1], f"{base}/{item[0]}"), files.items()))
        record = json.dumps({"files": listed}, indent=1, sort_keys=True).encode()
        try:
            self.write(f"{base}/{LIST}", record, new=True)
        except SeawayError:
            if self._listed(base) != listed:  # else another process published the same meanwhile
                raise

    def fetch(self, uri: str, folder: Path) -> Path:
        """Bring a published folder here: ``folder`` is replaced by it, whole, or left as it was.

        Raises Absent where nothing whole is published, SeawayError when a file is not the one that was.
        """
        base, folder = uri.rstrip("/"), Path(folder)
        listed = self._listed(base)
        if listed is None:
            raise Absent(f"{base} holds no published folder")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
            made = Path(temporary) / "made"

            def one(item: tuple[str, str]) -> None:
                if self.download(f"{base}/{item[0]}", made / item[0]) != item[1]:
                    raise SeawayError(f"{base}/{item[0]} is not the file that was published: publish the folder again")

            with ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(one, listed.items()))
            if folder.exists():
                folder.rename(Path(temporary) / "before")
            made.rename(folder)
        return folder

    # inside

    def _listed(self, base: str) -> dict[str, str] | None:
        """SHA-256 by name of a published folder's files; None where there is none."""
        try:
            data = self.read(f"{base}/{LIST}")
        except Absent:
            return None
        try:
            files = json.loads(data)["files"]
            if all(is_name(name) and isinstance(value, str) for name, value in files.items()):
                return dict(files)
        except (ValueError, TypeError, KeyError, AttributeError):
            pass
        raise SeawayError(f"{base}/{LIST} is no list of files: publish the folder again")

    def _size(self, uri: str) -> int | None:
        import obstore

        store, path = self._place(uri)
        try:
            with explained(uri):
                return int(obstore.head(store, path)["size"])
        except Absent:
            return None

    def _place(self, uri: str) -> tuple[Any, str]:
        scheme, bucket, path = parts(uri)
        return client(scheme, bucket, self.endpoint, self.region, os.getpid()), path


def _plain_files(folder: Path) -> Iterator[Path]:
    paths = sorted(folder.rglob("*"))
    for path in paths:
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise SeawayError(f"{path} is a link or a special file: only plain files are published")
    files = [path for path in paths if path.is_file()]
    if not files:
        raise SeawayError(f"{folder} has no files to publish")
    yield from files


def _hashed(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
