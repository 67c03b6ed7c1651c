"""Feast objects for a FeatureSpec: what a feature repository declares, built from the one definition.

For each Window view there is a training view over the feature step's table, and an online view
``<view>_history`` that holds each entity's events. For each Latest view there is one view for both. One
feature service a model version: ``<version>`` for training and ``<version>_online`` for Feast's server.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from feast import Entity, FeatureService, FeatureView, Field, FileSource, OnDemandFeatureView, RequestSource, ValueType
from feast.types import Array, Float32, Float64, Int64, UnixTimestamp

from seaway.artifacts import canonical_json, record_hash
from seaway.features import FeatureSpec, Latest, Window, micros
from seaway.online import history_features, history_view

# A view's rows are at whole seconds, entity rows up to a second later: they must not age within theirs.
_SECOND = timedelta(seconds=1) - timedelta(microseconds=1)


@dataclass(frozen=True)
class Declarations:
    """The Feast objects of a spec, each group in the spec's order (windows first, then latest)."""

    entities: tuple[Entity, ...]
    sources: tuple[FileSource, ...]
    views: tuple[FeatureView, ...]
    histories: tuple[FeatureView, ...]
    request: OnDemandFeatureView | None  # None: no feature depends on the request alone
    online: OnDemandFeatureView
    services: tuple[FeatureService, FeatureService]


def joined_names(spec: FeatureSpec) -> dict[str, str]:
    """Feature name -> its column in a join of the training service with full feature names."""
    names = {r.name: f"{_request_name(spec)}__{r.name}" for r in spec.requests}
    return names | {name: f"{view.view}__{name}" for view in (*spec.windows, *spec.latest) for name in view.names}


def _request_name(spec: FeatureSpec) -> str:
    return f"{spec.version}_request"


_DECLARED: dict[str, Declarations] = {}


def declare(spec: FeatureSpec, owner: str, tags: dict[str, str] | None = None) -> Declarations:
    """The objects for a spec; the same objects for the same arguments.

    Feast imports every file of a repository under its own name, and takes two equal objects for a
    conflict; one object that several files name is none.
    """
    tags = tags or {}
    key = record_hash([spec.as_record(), owner, tags])
    if key not in _DECLARED:
        _DECLARED[key] = _declare(spec, owner, tags)
    return _DECLARED[key]


def _declare(spec: FeatureSpec, owner: str, tags: dict[str, str]) -> Declarations:
    named = {view.entity: view.key for view in (*spec.windows, *spec.latest)}
    entities = {
        name: Entity(
            name=name,
            join_keys=[key],
            value_type=ValueType.INT64,
            description=f"One {name}, known by {key}",
            owner=owner,
            tags=tags,
        )
        for name, key in named.items()
    }
    sources = {name: _source(name, owner, tags) for name in [v.view for v in (*spec.windows, *spec.latest)]}
    views = [_training_view(w, entities[w.entity], sources[w.view], owner, tags) for w in spec.windows]
    latest = [_latest_view(v, entities[v.entity], sources[v.view], owner, tags) for v in spec.latest]
    histories = [_history_view(w, entities[w.entity], owner, tags) for w in spec.windows]
    request = _request_view(spec, owner, tags) if spec.requests else None
    online = _online_view(spec, histories + latest, owner, tags)
    training = FeatureService(
        name=spec.version,
        features=[*([request] if request else []), *views, *latest],
        description=f"Training features of {spec.version}, as of each event",
        owner=owner,
        tags=tags | {"feature_hash": spec.hash},
    )
    serving = FeatureService(
        name=f"{spec.version}_online",
        features=[online],
        description=f"The same features for a request, from the histories (ask for {', '.join(spec.inputs)})",
        owner=owner,
        tags=tags | {"feature_hash": spec.hash},
    )
    return Declarations(
        entities=tuple(entities.values()),
        sources=tuple(sources.values()),
        views=(*views, *latest),
        histories=tuple(histories),
        request=request,
        online=online,
        services=(training, serving),
    )


def _source(name: str, owner: str, tags: dict[str, str]) -> FileSource:
    return FileSource(
        name=f"{name}_file",
        path=f"{name}.parquet",  # below the offline store's root
        timestamp_field="event_timestamp",
        created_timestamp_column="created_timestamp",
        description=f"View {name} as the feature step writes it",
        owner=owner,
        tags=tags,
    )


def _training_view(window: Window, entity: Entity, source: FileSource, owner: str, tags: dict[str, str]) -> FeatureView:
    return FeatureView(
        name=window.view,
        entities=[entity],
        schema=[Field(name=window.key, dtype=Int64), *[Field(name=n, dtype=Float32) for n in window.names]],
        source=source,
        ttl=timedelta(microseconds=window.horizon),  # an older row describes windows that are empty by now
        online=False,  # values as of the last event are out of date online: the histories are served instead
        description=f"Count and mean of {window.value} of a {window.entity} over {', '.join(window.windows)}",
        owner=owner,
        tags=tags,
    )


def _latest_view(latest: Latest, entity: Entity, source: FileSource, owner: str, tags: dict[str, str]) -> FeatureView:
    return FeatureView(
        name=latest.view,
        entities=[entity],
        schema=[Field(name=latest.key, dtype=Int64), *[Field(name=n, dtype=Float32) for n in latest.names]],
        source=source,
        ttl=timedelta(microseconds=micros(latest.ttl)) + _SECOND,
        online=True,
        description=f"Newest row of {latest.source} for a {latest.entity}",
        owner=owner,
        tags=tags,
    )


def _history_view(window: Window, entity: Entity, owner: str, tags: dict[str, str]) -> FeatureView:
    times, quanta = history_features(window)
    return FeatureView(
        name=history_view(window),
        entities=[entity],
        schema=[
            Field(name=window.key, dtype=Int64),
            Field(name=times, dtype=Array(Int64), description="Microseconds since the epoch, UTC"),
            Field(name=quanta, dtype=Array(Int64), description=f"{window.value} in steps of {window.quantum}"),
        ],
        source=_source(history_view(window), owner, tags),
        ttl=timedelta(microseconds=window.horizon),
        online=True,
        description=f"Events of a {window.entity} that the windows of view {window.view} can reach",
        owner=owner,
        tags=tags,
    )


def _fields(spec: FeatureSpec, keys: set[str]) -> list[Field]:
    plain = [name for name in spec.inputs if name not in keys]
    return [Field(name=n, dtype=UnixTimestamp if n == spec.time else Float64) for n in plain]


def _udf(name: str, call: str, spec: FeatureSpec) -> dict[str, Any]:
    """A function with the definition inside its text: Feast stores the text and runs it elsewhere."""
    text = (
        f"def {name}(inputs):\n"
        f"    from seaway.feast_transforms import {call}\n\n"
        f"    return {call}({canonical_json(spec.as_record())!r}, inputs)\n"
    )
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec(text, scope)  # noqa: S102  the text is ours, from the definition
    return {"udf": scope[name], "udf_string": text}


def _request_view(spec: FeatureSpec, owner: str, tags: dict[str, str]) -> OnDemandFeatureView:
    keys = {view.key for view in (*spec.windows, *spec.latest)}
    return OnDemandFeatureView(
        name=_request_name(spec),
        sources=[RequestSource(name=f"{spec.version}_inputs", schema=_fields(spec, keys))],
        schema=[Field(name=r.name, dtype=Float32) for r in spec.requests],
        mode="pandas",  # whole training sets pass through it
        description="What depends on the request alone",
        owner=owner,
        tags=tags,
        **_udf(_request_name(spec), "request_frame", spec),
    )


def _online_view(
    spec: FeatureSpec, sources: list[FeatureView], owner: str, tags: dict[str, str]
) -> OnDemandFeatureView:
    keys = {view.key for view in (*spec.windows, *spec.latest)}
    return OnDemandFeatureView(
        name=f"{spec.version}_vector",
        sources=[*sources, RequestSource(name=f"{spec.version}_online_inputs", schema=_fields(spec, keys))],
        schema=[Field(name=name, dtype=Float32) for name in spec.names],
        mode="python",
        singleton=True,
        description="All features of a request, computed now from the stored histories",
        owner=owner,
        tags=tags,
        **_udf(f"{spec.version}_vector", "request_vector", spec),
    )
