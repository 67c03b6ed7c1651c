"""Where the bundles of registered versions lie, in what form, and whether they are to be trusted.

Without object storage: a folder among MLflow's artifacts. With it: ``<storage>/bundles/<signed digest>``, named by
the version's tag ``bundle``; MLflow then holds no copy.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seaway import bundles
from seaway.artifacts import content_hash, write_json
from seaway.errors import SeawayError
from seaway.registry_file import Version
from seaway.signature import ANEW, SIGNATURE
from seaway.signing import Seal
from seaway.storage import Storage, is_uri

if TYPE_CHECKING:
    from seaway.config import Config

SIGNED = "signed_digest"  # seaway.signing's digest of the bundle as it was signed
PLACE = "bundle"  # its URI, where it is not among MLflow's artifacts
IDENTITY = "identity.json"


class Shelf:
    """Bundles are signed with ``seal``; without one they are not. ``config``: names the object storage, if any."""

    def __init__(self, artifacts: Path, seal: Seal | None, config: Config | None) -> None:
        self._artifacts, self._seal, self._config = artifacts, seal, config

    @property
    def remote(self) -> str:
        """The URI below which bundles are published; "" where they are artifacts."""
        store = Storage.of(self._config) if self._config else None
        return bundles.root(store) if store else ""

    def found(self, version: Version) -> Version | None:
        """The version with the place of its bundle; None when that is gone."""
        if place := version.tags.get(PLACE):
            return replace(version, bundle=place)
        return version if is_uri(version.bundle) or Path(version.bundle).is_dir() else None

    def unsound(self, version: Version) -> str:
        """Why the bundle is not to be trusted, or "": it is signed and is the one that was registered."""
        if self._seal is None:
            return ""
        if SIGNED not in version.tags:
            return "" if is_uri(version.bundle) else f"version {version.version} is not signed"
        try:
            if not is_uri(version.bundle):
                self._seal.verify(Path(version.bundle), version.tags[SIGNED])
            elif self._config is not None:
                bundles.local_copy(self._config, version.bundle, version.tags[SIGNED])
        except SeawayError as error:
            return str(error)
        return ""

    def finish(
        self, version: Version, bundle: Path, digest: str, identity: dict[str, Any], log: Callable[[Path], Any]
    ) -> dict[str, str]:
        """Write identity.json into the bundle, sign it and put it in its place; the tags to be set.

        Only if its files still have the ``digest``, else SeawayError. ``log``: adds a file to MLflow's copy.
        """
        here = not is_uri(version.bundle) and not self.remote
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(version.bundle) if here else Path(shutil.copytree(bundle, Path(temporary) / "model"))
            if content_hash(folder, without=(IDENTITY, SIGNATURE)) != digest:
                raise SeawayError(f"the files in {folder} are not those that were trained, so it is not signed: {ANEW}")
            write_json(folder / IDENTITY, identity)
            signed = self._seal.sign(folder) if self._seal else ""
            if self.remote:
                if not signed:
                    raise SeawayError("a bundle in object storage is named by its signed digest: give a seal")
                return {PLACE: bundles.publish(self._config, folder, signed), SIGNED: signed}
            for name in () if here else (IDENTITY, *([SIGNATURE] if signed else [])):
                log(folder / name)
        return {SIGNED: signed} if signed else {}

    def put_back(self, version: Version, bundle: Path) -> None:
        """Replace a folder of ours that is not to be trusted by what it was made of; SeawayError for one that is not.

        A published bundle is never changed: ``finish`` publishes another.
        """
        if self.remote:
            return
        if not Path(version.bundle).resolve().is_relative_to(self._artifacts.resolve()):
            raise SeawayError(f"{version.bundle} cannot be trusted and is not ours to replace: restore its files")
        shutil.rmtree(version.bundle)
        shutil.copytree(bundle, version.bundle)
