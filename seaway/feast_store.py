"""The feature store of a workload: its settings, its definitions, and putting the two together."""

from __future__ import annotations

import importlib
import json
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seaway.config import Config
from seaway.errors import SeawayError
from seaway.feast_import import import_feast
from seaway.online import project_name
from seaway.online_stores import PASSWORD, redis_password

if TYPE_CHECKING:
    from feast import FeatureStore


def open_feature_store(config: Config, features: Path, registry: Path, online: dict[str, Any]) -> FeatureStore:
    """A Feast store over the feature step's files below ``features``.

    ``registry``: file; ``online``: ``{"type": "sqlite", "path"}`` or ``{"type": "redis", "connection"}``.
    """
    import_feast()
    from feast import FeatureStore, RepoConfig

    _heal(registry)
    return FeatureStore(
        config=RepoConfig(
            project=project_name(config.workload.name),
            provider="local",
            registry=str(registry),
            offline_store={"type": "seaway.feast_asof.AsOfOfflineStore", "root": str(features.resolve())},
            online_store=_online_settings(online),
            entity_key_serialization_version=3,
        )
    )


def _heal(registry: Path) -> None:
    """Remove a registry that a killed process left half written; it holds nothing but the definitions."""
    from feast.protos.feast.core.Registry_pb2 import Registry
    from google.protobuf.message import DecodeError

    registry.parent.mkdir(parents=True, exist_ok=True)
    if not registry.exists():
        return
    try:
        whole = bool(Registry.FromString(registry.read_bytes()).registry_schema_version)
    except DecodeError:
        whole = False
    if not whole:
        registry.unlink()


def _online_settings(online: dict[str, Any]) -> dict[str, Any]:
    if online.get("type") == "sqlite" and online.get("path"):
        Path(online["path"]).parent.mkdir(parents=True, exist_ok=True)
        return {"type": "sqlite", "path": str(Path(online["path"]).resolve())}
    if online.get("type") == "redis" and online.get("connection"):
        # one writer, whose later write is the newer state even within the same second
        return {"type": "redis", "connection_string": _connection(online["connection"]), "skip_dedup": True}
    raise SeawayError(f"online store {online!r}: give type sqlite with a path, or type redis with a connection")


def _connection(connection: str) -> str:
    """Feast takes the password as a part of the address; this text is never written anywhere."""
    password = redis_password()
    if "," in password:  # Feast divides the text at commas
        raise SeawayError(f"the password in {PASSWORD} has a comma, which Feast cannot take: choose another one")
    # quoted, or Feast would read digits as a number
    return f"{connection},password={json.dumps(password)}" if password else connection


def definitions(config: Config) -> list[Any]:
    """The Feast objects that the modules of the workload's feature repository name."""
    import_feast()
    from feast import Entity, FeatureService
    from feast.base_feature_view import BaseFeatureView
    from feast.data_source import DataSource

    folder = config.root / config.workload.feature_repo
    if not folder.is_dir():
        raise SeawayError(f"the workload's feature_repo {folder} is not a folder")
    if str(config.root) not in sys.path:
        sys.path.insert(0, str(config.root))
    package = config.workload.feature_repo.strip("/").replace("/", ".")
    found: dict[int, Any] = {}
    for file in sorted(folder.glob("*.py")):
        if file.name != "__init__.py":
            module = importlib.import_module(f"{package}.{file.stem}")
            named = (v for k, v in vars(module).items() if not k.startswith("_"))
            kinds = (Entity, DataSource, BaseFeatureView, FeatureService)
            found |= {id(value): value for value in named if isinstance(value, kinds)}
    if not found:
        raise SeawayError(f"the feature repository {folder} declares no Feast object")
    return list(found.values())


def apply(store: FeatureStore, config: Config) -> None:
    """``feast apply`` of the workload's definitions."""
    with warnings.catch_warnings():
        # "on-demand views do not scale offline": ours are vectorised (benchmarks/point_in_time_join.py)
        warnings.simplefilter("ignore", RuntimeWarning)
        store.apply(definitions(config))
