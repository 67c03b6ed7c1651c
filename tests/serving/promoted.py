"""A model that an environment has promoted, with its release bundle, for tests of what follows."""

from __future__ import annotations

from pathlib import Path

from seaway import release_bundle
from seaway.artifacts import content_hash
from seaway.config import Config
from seaway.features import FeatureSpec
from seaway.registry import Registry
from seaway.registry_file import Version
from tests.serving.conftest import Bundles


def promoted(source: Config, folder: Path, spec: FeatureSpec, name: str, bias: float, run: str = "r1") -> Version:
    """Registers a model that differs by ``bias`` as ``run`` would have, and makes it the champion of ``source``."""
    made = Path(Bundles(folder, {}, spec).make(name, bias=bias))
    for extra in ("model.sig", "identity.json"):
        (made / extra).unlink()
    digest = content_hash(made)
    lineage = {
        "run": run,
        "git_revision": "a" * 40,
        "feature_hash": spec.hash,
        "config_hash": "c",
        "model_hash": digest,
    }
    compiled = release_bundle.publish_pipeline(source, b"the compiled pipeline")
    pipeline = source.pipeline.model_copy(update={"digest": compiled})
    registry = Registry.of(source)
    version = registry.register(made, digest, params={}, metrics={}, tags={}, identity=lineage)
    release = release_bundle.make(source.model_copy(update={"pipeline": pipeline}), version, lineage)
    return registry.promote(version.version, release=release)
