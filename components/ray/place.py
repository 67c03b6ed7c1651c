"""Where a sweep's trials run when it is not a Ray of its own, and where they keep their states."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from seaway.errors import SeawayError
from seaway.object_store import Absent
from seaway.storage import Storage

KNOCK_S = 10.0


class CheckpointError(SeawayError):
    """A trial's state cannot be kept or brought: nothing that the trial did wrong."""


class Away(SeawayError):
    """No Ray answers at the address."""


@dataclass(frozen=True)
class Place:
    """``address``: Ray's; ``slots``: trials at a time, each with ``gpu`` or not; ``checkpoints``: URI for their states.

    ``store`` reads and writes those; without it they lie below home, which all machines share. ``stream`` gets the
    lines of progress (None: as everywhere). ``memory``: whether Ray counts the memory that trials ask for.
    """

    address: str
    slots: int
    gpu: bool
    store: Storage | None = None
    checkpoints: str = ""
    stream: TextIO | None = None
    memory: bool = False

    @property
    def remote(self) -> dict[str, Any] | None:
        """What a trial needs to keep its state there: plain values."""
        if self.store is None:
            return None
        return {"uri": self.checkpoints, "endpoint": self.store.endpoint, "region": self.store.region}

    @contextmanager
    def open(self) -> Iterator[Any]:
        """The ``ray`` module, connected. Its own settings of log lines and tokens are the cluster's."""
        with joined(self.address) as ray:
            yield ray


@contextmanager
def joined(address: str) -> Iterator[Any]:
    """The ``ray`` module, connected to the Ray at ``address``. Raises SeawayError: nobody there, or another Ray."""
    import ray

    if ray.is_initialized():  # by whoever called
        yield ray
        return
    logging.getLogger("ray").setLevel(logging.ERROR)
    _knock(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
    except Exception as error:
        ray.shutdown()
        raise _not_joined(address, error) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Ray ends the process that asks for a Ray which is not there, so ask the port first."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        return  # auto, or an address of another kind
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_S).close()
    except OSError as error:
        raise _not_joined(address, error) from None


def _not_joined(address: str, error: Exception) -> SeawayError:
    text = " ".join(str(error).split())
    if "ersion mismatch" in text:
        return SeawayError(
            f"the Ray at {address!r} is of another version: {text[:300]}. Install one Ray and Python here and there"
        )
    if "oken" in text and ("uthent" in text or "nvalid" in text or "nauthor" in text):
        return SeawayError(
            f"the Ray at {address!r} asks for a token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN or "
            f"RAY_AUTH_TOKEN_PATH ({text[:200]})"
        )
    return Away(
        f"no Ray answers at {address!r} ({text[:200]}): start one (`ray start --head`), and let this machine be a node "
        "of it (`ray start --address=…`); see ray.address"
    )


def bring(remote: Mapping[str, Any] | None, file: Path) -> None:
    """Get a trial's state from object storage: what lies here may be older than what another machine left."""
    if remote:
        with suppress(Absent):
            _store(remote).download(f"{remote['uri']}/{file.name}", file)


def keep(remote: Mapping[str, Any] | None, file: Path, last: bool) -> None:
    """Put a trial's state there. Only the ``last`` must succeed; after a failure before, more would be done again."""
    if not remote:
        return
    try:
        _store(remote).upload(file, f"{remote['uri']}/{file.name}")
    except SeawayError:
        if last:
            raise


@contextmanager
def keeping(what: str, folder: Path) -> Iterator[None]:
    """Tell of what cannot be written to ``folder``, or brought there, as a CheckpointError that says how full it is."""
    from safetensors import SafetensorError

    try:
        yield
    except CheckpointError:
        raise
    except (OSError, SafetensorError, SeawayError) as error:
        raise CheckpointError(f"{what} cannot be kept in {folder}: {_reason(error)}{room(folder)}") from error


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.rpartition("I/O error: ")[2].strip().rstrip(".")


def room(folder: Path) -> str:
    """How full the disk of ``folder`` is, for a message; "" where nobody can say."""
    with suppress(OSError):
        at = next(p for p in (folder, *folder.parents) if p.exists())
        usage = shutil.disk_usage(at)
        return f" ({usage.free / 1e6:.1f} MB of {usage.total / 1e6:.1f} MB are free)"
    return ""


def check_writable(folder: Path, remote: Mapping[str, Any] | None) -> None:
    """Raises SeawayError now, and not after the first epoch, when states cannot be kept."""
    probe = folder / f".probe-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with probe.open("wb") as stream:
                stream.write(bytes(4096))
                stream.flush()
                os.fsync(stream.fileno())
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        cure = "make room there" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "let this account write there"
        raise SeawayError(
            f"the sweep's state cannot be kept in {folder}: {error.strerror}{room(folder)}; {cure}, "
            "or set `home` elsewhere"
        ) from None
    if remote:
        _store(remote).write(f"{remote['uri'].rpartition('/')[0]}/.probe", b"")


def _store(remote: Mapping[str, Any]) -> Storage:
    return Storage(remote["uri"], remote["endpoint"], remote["region"])


def write_beside(remote: Mapping[str, Any] | None, file: Path) -> None:
    """Put a small file of the sweep's folder to object storage too, where states are kept there."""
    if remote:
        _store(remote).upload(file, f"{remote['uri']}/{file.name}")


def forget(remote: Mapping[str, Any] | None, file: Path) -> None:
    """Remove a small file of the sweep's folder from object storage."""
    if remote:
        _store(remote).remove(f"{remote['uri']}/{file.name}")
