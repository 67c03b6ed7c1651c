"""A Ray that is there already, such as the one of a RayJob, where a sweep's trials run on other machines."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from seaway.errors import SeawayError
from seaway.object_store import Absent
from seaway.storage import Storage


@dataclass(frozen=True)
class Place:
    """``address``: Ray's; ``slots``: trials at a time, each with ``gpu`` or not; ``checkpoints``: URI for their states.

    ``store`` reads and writes those; ``stream`` gets the lines of progress (None: as everywhere).
    """

    address: str
    slots: int
    gpu: bool
    store: Storage
    checkpoints: str
    stream: TextIO | None = None

    @property
    def remote(self) -> dict[str, Any]:
        """What a trial needs to keep its state there: plain values."""
        return {"uri": self.checkpoints, "endpoint": self.store.endpoint, "region": self.store.region}

    @contextmanager
    def open(self) -> Iterator[Any]:
        """The ``ray`` module, connected. Its own settings of log lines and tokens are the cluster's."""
        import ray

        logging.getLogger("ray").setLevel(logging.ERROR)
        try:
            ray.init(address=self.address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
        except Exception as error:
            raise SeawayError(f"no Ray answers at {self.address!r} ({str(error).splitlines()[0]})") from error
        try:
            yield ray
        finally:
            ray.shutdown()


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


def _store(remote: Mapping[str, Any]) -> Storage:
    return Storage(remote["uri"], remote["endpoint"], remote["region"])
