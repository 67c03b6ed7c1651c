"""Events with Feast's features: the point-in-time join of some of the feature step's rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from seaway.config import Config
from seaway.errors import SeawayError
from seaway.features import FeatureSpec
from seaway.online import INPUT_PREFIX

if TYPE_CHECKING:
    from feast import FeatureStore


def open_store(config: Config, features: Path) -> FeatureStore:
    """The pipeline's feature store over the feature step's folder; its definitions are applied apart."""
    from seaway.feast_store import open_feature_store

    home = config.home / "feast"
    online = {"type": "sqlite", "path": home / "online.db"}
    store = open_feature_store(config, features, home / "registry.db", online)
    # what Feast finds by name: imported here, their code counts as that of the step
    import seaway.feast_asof
    import seaway.feast_transforms  # noqa: F401

    return store


def raw_columns(spec: FeatureSpec, table: pl.LazyFrame) -> list[str]:
    """What of the feature step's main table is taken as it is."""
    return [name for name in table.collect_schema().names() if name not in spec.names]


def joined(store: FeatureStore, spec: FeatureSpec, rows: pl.DataFrame) -> pl.DataFrame:
    """``rows`` (raw columns of the main table) with the spec's features as float32, in the same order.

    Features are those known at each event. SeawayError when the feature service lacks one.
    """
    from seaway.feast_views import joined_names  # imports Feast, which open_feature_store does in less time

    job = store.get_historical_features(
        entity_df=_entity_rows(spec, rows),
        features=store.get_feature_service(spec.version),
        full_feature_names=True,  # an input may have a feature's name
        filter_by_created_timestamp=True,
    )
    table = pl.from_arrow(job.to_arrow())
    names = joined_names(spec)
    missing = [name for name in spec.names if names[name] not in table.columns]
    if missing:
        raise SeawayError(f"the feature service {spec.version!r} does not give {', '.join(missing)}")
    computed = table.select(pl.col(names[name]).cast(pl.Float32).alias(name) for name in spec.names)
    defaults = {name: latest.default for latest in spec.latest for name in latest.names}
    return rows.hstack(computed.with_columns(pl.col(name).fill_null(value) for name, value in defaults.items()))


def _entity_rows(spec: FeatureSpec, rows: pl.DataFrame) -> Any:
    """Keys, the moment of each event, and the request's inputs under their own names, for Feast."""
    keys = dict.fromkeys(view.key for view in (*spec.windows, *spec.latest))
    columns = {"event_timestamp": pl.col("event_timestamp")} | {key: pl.col(key) for key in keys}
    for name in spec.inputs:
        if name not in columns:
            stored = f"{INPUT_PREFIX}{name}"
            columns[name] = pl.col(stored if stored in rows.columns else name)
    for request in spec.requests:
        columns.setdefault(request.column, pl.col(request.column))
    return rows.select(expression.alias(name) for name, expression in columns.items()).to_pandas()
