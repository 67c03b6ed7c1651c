"""A Feast offline store over Parquet files whose point-in-time join is an as-of join.

Feast's local stores join every entity row with every feature row of its key and filter afterwards,
which is quadratic per key. This one plugs into the same interface (``offline_store.type``:
``seaway.feast_asof.AsOfOfflineStore``) and gives the same rows. Sources are Parquet files; a relative
path is below the store's ``root``, so that definitions name no place on a machine.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import polars as pl
from feast.data_source import DataSource
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL, FeatureView
from feast.infra.offline_stores.file_source import FileSource
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob, RetrievalMetadata
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from feast.utils import _get_requested_feature_views_to_features_dict, compute_non_entity_date_range, make_tzaware

from seaway import asof_join, parts
from seaway.feast_asof_job import AsOfRetrievalJob

Between = tuple[datetime | None, datetime | None]  # both included; None: open

_ENTITY_TIME = "event_timestamp"
_ROW = "__row"


class AsOfOfflineStoreConfig(FeastConfigBaseModel):
    """``root``: the folder below which relative paths of sources are; relative to the feature repository."""

    type: Literal["seaway.feast_asof.AsOfOfflineStore"] = "seaway.feast_asof.AsOfOfflineStore"
    root: str = "."


class AsOfOfflineStore(OfflineStore):
    """Point-in-time joins and materialisation from Parquet files."""

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
        **kwargs: Any,
    ) -> RetrievalJob:
        """The newest features at or before each entity row's time, in the order of the entity rows.

        Without ``entity_df``, all entities of the views with a row between the dates, as of the end date.
        """
        if entity_df is not None and not isinstance(entity_df, pd.DataFrame):
            raise ValueError(f"entity_df must be a pandas DataFrame, not {type(entity_df).__name__}")
        on_demand = OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry)
        wanted, _ = _get_requested_feature_views_to_features_dict(feature_refs, feature_views, on_demand)
        period = compute_non_entity_date_range(feature_views, kwargs.get("start_date"), kwargs.get("end_date"))
        moment = _ENTITY_TIME if entity_df is None else _time_column(entity_df)

        def evaluate() -> pl.DataFrame:
            left = _entities(config, list(wanted), period) if entity_df is None else _from_pandas(entity_df, moment)
            for view, features in wanted.items():
                left = _join_view(config, left, moment, view, features, full_feature_names, filter_by_created_timestamp)
            return left.sort(_ROW).drop(_ROW) if not left[_ROW].is_sorted() else left.drop(_ROW)

        keys = [] if entity_df is None else [c for c in entity_df.columns if c != moment]
        times = period if entity_df is None or entity_df.empty else (entity_df[moment].min(), entity_df[moment].max())
        metadata = RetrievalMetadata(feature_refs, keys, *times)
        return AsOfRetrievalJob(evaluate, full_feature_names, on_demand, metadata)

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> RetrievalJob:
        """The newest row of each key between the dates, both included; what ``materialize`` writes."""

        def evaluate() -> pl.DataFrame:
            keys, created = join_key_columns, created_timestamp_column
            rows = _pull(config, data_source, keys, timestamp_field, created, (start_date, end_date))
            latest = asof_join.newest(rows, keys, bool(created_timestamp_column))
            return _pulled(latest, keys, feature_name_columns, timestamp_field, created)

        return AsOfRetrievalJob(evaluate)

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """All rows between the dates, both included; an open end where a date is not given."""

        def evaluate() -> pl.DataFrame:
            keys, created = join_key_columns, created_timestamp_column
            rows = _pull(config, data_source, keys, timestamp_field, created, (start_date, end_date))
            ordered = asof_join.in_order(rows, bool(created))
            return _pulled(ordered, keys, feature_name_columns, timestamp_field, created)

        return AsOfRetrievalJob(evaluate)

    def validate_data_source(self, config: RepoConfig, data_source: DataSource) -> None:
        """Definitions may be applied before their data is there, so a missing file is no error yet."""
        _path(config, data_source)

    def get_table_column_names_and_types_from_data_source(
        self, config: RepoConfig, data_source: DataSource
    ) -> list[tuple[str, str]]:
        import pyarrow.parquet as pq

        path = _path(config, data_source)
        schema = pq.read_schema(next(iter(parts.days(path).values())) if path.is_dir() else path)
        return [(field.name, str(field.type)) for field in schema]


def _path(config: RepoConfig, source: DataSource) -> Path:
    if not isinstance(source, FileSource):
        kind = type(source).__name__
        raise ValueError(f"the as-of store reads Parquet files, but source {source.name!r} is a {kind}")
    return Path(config.repo_path or ".") / config.offline_store.root / source.path


def _scan(config: RepoConfig, source: DataSource, between: Between) -> pl.LazyFrame:
    """The source's rows; of one in parts only those days that can have rows between the times."""
    path = _path(config, source)
    if not path.exists():
        raise FileNotFoundError(f"source {source.name!r}: there is no {path}")
    if not path.is_dir():
        return pl.scan_parquet(path)
    start, end = (edge.astimezone(UTC).date() if edge else None for edge in between)
    # a row may be dated at the midnight after its part's day
    return parts.scan(path, start and start - timedelta(days=1), end and end + timedelta(days=1))


def _time_column(entity_df: pd.DataFrame) -> str:
    if _ENTITY_TIME in entity_df.columns:
        return _ENTITY_TIME
    times = list(entity_df.select_dtypes(include=["datetime", "datetimetz"]).columns)
    if len(times) != 1:
        raise ValueError(f"entity_df needs a column {_ENTITY_TIME!r} with the time of each row")
    return times[0]


def _from_pandas(entity_df: pd.DataFrame, moment: str) -> pl.DataFrame:
    left = pl.from_pandas(entity_df).with_row_index(_ROW)
    left = left.with_columns(asof_join.as_utc(moment, left.schema).alias(moment))
    return left if left[moment].is_sorted() else left.sort(moment, maintain_order=True)


def _keys(view: FeatureView) -> list[tuple[str, str]]:
    """(column of the entity rows, column of the view) of each join key."""
    names = [column.name for column in view.entity_columns if column.name != DUMMY_ENTITY_ID]
    return [(view.projection.join_key_map.get(name, name), name) for name in names]


def _view_rows(config: RepoConfig, view: FeatureView, features: list[str], between: Between) -> pl.LazyFrame:
    """The view's rows under Feast's names, with ``__time`` and ``__created``."""
    source, keys = view.batch_source, [right for _, right in _keys(view)]
    renamed = dict(source.field_mapping)
    rows = _scan(config, source, between).rename(renamed, strict=False)
    time = renamed.get(source.timestamp_field, source.timestamp_field)
    created = renamed.get(source.created_timestamp_column, source.created_timestamp_column) or None
    rows = asof_join.prepare(rows, keys, time, created, between)
    stamps = ["__time", *(["__created"] if created else [])]
    return rows.select(*stamps, *dict.fromkeys([*keys, *features]))


def _join_view(
    config: RepoConfig,
    left: pl.DataFrame,
    moment: str,
    view: FeatureView,
    features: list[str],
    full_feature_names: bool,
    known: bool,
) -> pl.DataFrame:
    missing = [name for name, _ in _keys(view) if name not in left.columns]
    if missing:
        raise ValueError(f"view {view.name!r} joins on {missing}, which the entity rows do not have")
    ttl = view.ttl or None
    first, last = left[moment].min(), left[moment].max()
    prefix = f"{view.projection.name_to_use()}__" if full_feature_names else ""
    names = {f"{prefix}{feature}": feature for feature in features}
    path = _path(config, view.batch_source)
    if path.is_dir() and (days := parts.days(path)) and first:
        oldest = datetime.combine(min(days), datetime.min.time(), UTC)
        left = _match_keys(left, _view_rows(config, view, [], (oldest, oldest)).collect_schema(), _keys(view))
        between = lambda *edges: _view_rows(config, view, features, edges).collect()  # noqa: E731
        return asof_join.join_backwards(left, moment, between, oldest, _keys(view), names, ttl, known)
    rows = _view_rows(config, view, features, (first - ttl if ttl and first else None, last)).collect()
    left = _match_keys(left, rows.schema, _keys(view))
    return asof_join.join(left, moment, rows, _keys(view), names, ttl, known)


def _match_keys(left: pl.DataFrame, schema: pl.Schema, keys: list[tuple[str, str]]) -> pl.DataFrame:
    return left.with_columns(pl.col(a).cast(schema[b]) for a, b in keys if left.schema[a] != schema[b])


def _entities(config: RepoConfig, views: list[FeatureView], period: tuple[datetime, datetime]) -> pl.DataFrame:
    keys = {tuple(_keys(view)) for view in views}
    if len(keys) != 1:
        raise ValueError("without entity_df all views must have the same join keys; give the entity rows")
    names = [right for _, right in next(iter(keys))]
    rows = pl.concat([_view_rows(config, view, [], period).select(names).collect() for view in views])
    entities = rows.unique(maintain_order=True).sort(names)
    return entities.with_columns(pl.lit(period[1]).cast(asof_join.STAMP).alias(_ENTITY_TIME)).with_row_index(_ROW)


def _pull(
    config: RepoConfig,
    source: DataSource,
    keys: list[str],
    time: str,
    created: str | None,
    between: Between,
) -> pl.DataFrame:
    start, end = (make_tzaware(edge) if edge else None for edge in between)
    return asof_join.prepare(_scan(config, source, (start, end)), keys, time, created, (start, end)).collect()


def _pulled(rows: pl.DataFrame, keys: list[str], features: list[str], time: str, created: str | None) -> pl.DataFrame:
    stamps = {time: "__time"} | ({created: "__created"} if created else {})
    columns = [pl.col(column).alias(name) for name, column in stamps.items()]
    if not keys:
        columns.append(pl.lit(DUMMY_ENTITY_VAL).alias(DUMMY_ENTITY_ID))
    return rows.select(*dict.fromkeys([*keys, *features]), *columns)
