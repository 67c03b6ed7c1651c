"""The registered version that scores: its signed bytes and what a score is said to come from."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from seaway.config import Config
from seaway.errors import SeawayError
from seaway.features import FeatureSpec
from seaway.slices import FILE, Slices

CHAMPION = "champion"


@dataclass(frozen=True)
class Model:
    """``onnx``: the model's bytes, as they were signed; ``digest``: of the signed bundle. Workers get it as it is."""

    version: str
    run: str
    digest: str
    onnx: bytes
    features: dict[str, Any]  # the record of its FeatureSpec
    feature_hash: str
    threshold: float
    background: tuple[tuple[float, ...], ...]
    reasons: dict[str, str]
    files: dict[str, bytes] = field(default_factory=dict)  # of a version with slices: slices.json and what it names

    @property
    def spec(self) -> FeatureSpec:
        return FeatureSpec.from_record(self.features)

    @property
    def routed_by(self) -> tuple[str, ...]:
        """The column by whose value a row goes to a slice's model; none of a version without slices."""
        return (json.loads(self.files[FILE])["by"],) if self.files else ()


def load(config: Config, which: str = CHAMPION) -> Model:
    """The champion, or the version with this number or alias.

    Raises SeawayError where there is none, and for a bundle that is not the signed one that was registered.
    """
    from seaway.bundles import local_copy
    from seaway.keys import public_key
    from seaway.registry import SIGNED, Registry
    from seaway.signing import opened

    registry = Registry.of(config)
    found = registry.find(which)
    if found is None and which == CHAMPION:
        raise SeawayError(
            f"there is no champion of {config.workload.name} yet: release a version (`seaway release`), or name one "
            "that is registered with --version N"
        )
    version = registry.signed(found or registry.get(which))
    digest = version.tags.get(SIGNED, "")
    bundle = opened(local_copy(config, version.bundle, digest), public_key(config), digest)
    record, identity = json.loads(bundle.read("model.json")), json.loads(bundle.read("identity.json"))
    spec = FeatureSpec.from_record(record["features"])
    for where, claims in (("model.json", record), ("identity.json", identity)):
        if claims.get("feature_hash", spec.hash) != spec.hash:
            raise SeawayError(f"{where} of version {version.version} claims another feature hash than its definitions")
    return Model(
        version=version.version,
        run=str(identity.get("run", "")),
        digest=bundle.digest,
        onnx=bundle.read("model.onnx"),
        features=spec.as_record(),
        feature_hash=spec.hash,
        threshold=float(record["threshold"]),
        background=tuple(map(tuple, record.get("background", []))),
        reasons=record.get("reasons", {}),
        files=_of_slices(bundle, len(spec.names)) if FILE in bundle.files else {},
    )


def _of_slices(bundle: Any, width: int) -> dict[str, bytes]:
    """slices.json and each slice's files; SeawayError where the table cannot be used or a file is not there."""
    Slices(bundle.read, width)
    table = bundle.read(FILE)
    folders = [kept["folder"] for kept in json.loads(table)["kept"].values()]
    return {FILE: table} | {n: bundle.read(n) for f in folders for n in (f"{f}/model.onnx", f"{f}/model.json")}
