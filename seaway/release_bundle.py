"""The release bundle: the immutable, signed record of all that a release consists of.

A folder with ``release.json`` and, where it is known, the compiled pipeline ``pipeline.yaml``, signed like a
model bundle (seaway/signing.py) and named by its digest: ``<storage>/releases/<digest>/``. It names what it
does not hold by digest: the model bundle, the images, the features. It is made once, when a model is
registered, and only ever copied afterwards.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seaway.artifacts import write_json
from seaway.bundles import publish_to
from seaway.errors import SeawayError
from seaway.keys import public_key
from seaway.object_store import Absent
from seaway.registry import SIGNED
from seaway.signing import Seal, opened
from seaway.storage import Storage

if TYPE_CHECKING:
    from seaway.config import Config
    from seaway.registry_file import Version

FORMAT = 1
RECORD, PIPELINE = "release.json", "pipeline.yaml"
_KEYS = {"format", "workload", "environment", "model", "pipeline", "images", "features", "config", "infrastructure"}


@dataclass(frozen=True)
class ReleaseBundle:
    """A release bundle whose signature and digest were checked."""

    digest: str
    record: dict[str, Any]


def record_of(config: Config, model: Mapping[str, Any], lineage: Mapping[str, Any]) -> dict[str, Any]:
    """What the bundle says. ``model``: {name, version, digest (of the signed bundle)}. Pure."""
    return {
        "format": FORMAT,
        "workload": config.workload.name,
        "environment": config.env,
        "model": {**model, "hash": lineage["model_hash"], "lineage": dict(lineage)},
        "pipeline": config.pipeline.digest,
        "images": {
            "train": config.pipeline.image,
            "serve": config.serving.image,
            "controller": config.serving.controller_image,
        },
        "features": lineage["feature_hash"],
        "config": lineage["config_hash"],
        "infrastructure": config.infrastructure.model_dump(mode="json"),
    }


def publish_pipeline(config: Config, definition: bytes) -> str:
    """Keep the compiled pipeline in storage, where the step that makes the bundle finds it; its SHA-256."""
    digest = hashlib.sha256(definition).hexdigest()
    store = store_of(config)
    uri = store.join("pipelines", f"{digest}.yaml")
    if not store.exists(uri):
        store.write(uri, definition)
    return digest


def make(config: Config, version: Version, lineage: Mapping[str, Any]) -> str:
    """Make, sign and publish the bundle of a registered version; its digest. The same content gives the same one.

    Without the compiled pipeline in storage it is made all the same, and cannot move to another environment.
    Raises SeawayError where it cannot be signed or written, or where the compiled pipeline is not the one
    that the configuration names.
    """
    store = store_of(config)
    model = {"name": version.name, "version": version.version, "digest": version.tags[SIGNED]}
    record = record_of(config, model, lineage)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if record["pipeline"]:
            try:
                definition = store.read(store.join("pipelines", f"{record['pipeline']}.yaml"))
                _check_pipeline(definition, record["pipeline"], store.uri)
                (folder / PIPELINE).write_bytes(definition)
            except Absent:
                record["pipeline"] = ""
        write_json(folder / RECORD, record)
        digest = Seal(config).sign(folder)
        publish_to(store, folder, place(store, digest), digest, public_key(config))
    return digest


def read(store: Storage, digest: str, trusted: Path) -> ReleaseBundle:
    """The bundle of this digest, signed with the key ``trusted``; SeawayError says why it is not to be used."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "release"
        store.fetch(place(store, digest), folder)
        sealed = opened(folder, trusted, digest)
        record = json.loads(sealed.read(RECORD))
        _check_record(record, digest)
        if record["pipeline"]:
            _check_pipeline(sealed.read(PIPELINE), record["pipeline"], f"the release bundle {digest[:12]}")
    return ReleaseBundle(digest, record)


def copy(source: Storage, target: Storage, digest: str, trusted: Path) -> None:
    """Copy a release bundle and read it back from there; one that is there already and verifies stays."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = source.fetch(place(source, digest), Path(temporary) / "release")
        publish_to(target, folder, place(target, digest), digest, trusted)
    read(target, digest, trusted)


def place(store: Storage, digest: str) -> str:
    return store.join("releases", digest)


def store_of(config: Config) -> Storage:
    """Where bundles are kept: object storage, or without it a folder below home."""
    return Storage.of(config) or Storage((config.home / "store").absolute().as_uri())


def _check_record(record: Any, digest: str) -> None:
    if not isinstance(record, dict) or record.get("format") != FORMAT or set(record) != _KEYS:
        raise SeawayError(f"release bundle {digest[:12]} is of another format than this Seaway reads: update Seaway")


def _check_pipeline(definition: bytes, expected: str, where: str) -> None:
    if hashlib.sha256(definition).hexdigest() != expected:
        raise SeawayError(f"the compiled pipeline in {where} is not the one of digest {expected[:12]}: run again")
