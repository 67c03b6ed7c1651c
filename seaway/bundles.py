"""Model bundles in object storage: published under the digest that was signed, fetched once, checked always."""

from __future__ import annotations

import re
import shutil
import tempfile
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from seaway.errors import SeawayError
from seaway.signing import opened
from seaway.storage import Storage, is_uri

if TYPE_CHECKING:
    from seaway.config import Config

_DIGEST = re.compile(r"[0-9a-f]{64}")


def publish(config: Config, bundle: Path, digest: str) -> str:
    """Store a signed bundle as ``<storage>/bundles/<digest>`` and give that URI; its own path without storage."""
    from seaway.keys import public_key

    store = Storage.of(config)
    if store is None:
        return str(bundle)
    return publish_to(store, bundle, place(store, digest), digest, public_key(config))


def publish_to(store: Storage, folder: Path, uri: str, digest: str, trusted: Path) -> str:
    """Store a signed folder at ``uri``, in place of one that does not verify with the key ``trusted``; the URI.

    A digest leaves the signature out: after a change of keys the same files have the same place. Raises
    SeawayError, before anything is written, where ``folder`` itself does not verify.
    """
    if not _sound(store, uri, digest, trusted):  # else perhaps with another signature: it is as good
        opened(folder, trusted, digest)
        store.publish(folder, uri, replace=True)
    return uri


def root(store: Storage) -> str:
    """The URI below which model bundles are published."""
    return store.join("bundles")


def place(store: Storage, digest: str) -> str:
    return f"{root(store)}/{digest}"


def _sound(store: Storage, uri: str, digest: str, trusted: Path) -> bool:
    """Whether what is published there is whole and verifies."""
    with tempfile.TemporaryDirectory() as temporary, suppress(SeawayError):
        if store.exists(uri):
            opened(store.fetch(uri, Path(temporary) / "bundle"), trusted, digest)
            return True
    return False


def local_copy(config: Config, where: str, digest: str = "") -> Path:
    """The bundle's folder on this machine: ``where`` itself, or of a URI a checked copy in home/bundles.

    ``digest``: the signed one that it must have; without it, the one that the URI ends in. A local folder is
    checked only against a given digest. Raises SeawayError for a bundle that is gone or not to be trusted.
    """
    from seaway.keys import public_key

    if not is_uri(where):
        if digest:
            opened(Path(where), public_key(config), digest)
        return Path(where)
    name = where.rstrip("/").rpartition("/")[2]
    digest = digest or (name if _DIGEST.fullmatch(name) else "")
    target = config.home / "bundles" / (digest or sha256(where.encode()).hexdigest())
    return fetched(Storage.holding(config, where), where, target, public_key(config), digest)


def fetched(store: Storage, uri: str, folder: Path, trusted: Path, digest: str = "") -> Path:
    """``folder``, which holds the bundle at ``uri``, signed with the key ``trusted``; SeawayError where it cannot.

    A copy that is there and verifies is taken; one that does not is fetched anew.
    """
    with suppress(SeawayError):
        opened(folder, trusted, digest)
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder.parent) as temporary:
        made = store.fetch(uri, Path(temporary) / "bundle")
        try:
            opened(made, trusted, digest)
        except SeawayError as error:
            raise SeawayError(str(error).replace(str(made), uri)) from None
        if folder.exists():
            with suppress(SeawayError):  # another process was quicker
                opened(folder, trusted, digest)
                return folder
            shutil.rmtree(folder)
        made.rename(folder)
    return folder
