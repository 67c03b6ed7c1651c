"""The as-of offline store: against a reference that looks at every row, and against Feast's own store."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seaway import asof_join
from seaway.feast_import import import_feast

import_feast()
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType  # noqa: E402
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage  # noqa: E402
from feast.types import Float32, Int64  # noqa: E402

START = datetime(2024, 1, 1, tzinfo=UTC)
STORE = "seaway.feast_asof.AsOfOfflineStore"


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def reference(rows, key, moment, ttl, known):
    """The value that counts at a moment, by looking at each row."""
    seen = [
        (time, created, i, value)
        for i, (k, time, created, value) in enumerate(rows)
        if k == key and time <= moment and (not known or created <= moment)
    ]
    if not seen:
        return None
    time, _, _, value = max(seen)
    return None if ttl is not None and time < moment - ttl else value


ROWS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 12), st.integers(-2, 8)), max_size=25)
MOMENTS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20)), min_size=1, max_size=15)


@given(ROWS, MOMENTS, st.sampled_from([None, 0, 3, 8]), st.booleans())
@settings(max_examples=200, deadline=None)
def test_join_is_the_reference(rows, moments, ttl, known):
    rows = [(key, time, time + lag, i) for i, (key, time, lag) in enumerate(rows)]
    frame = pl.DataFrame(
        {
            "k": [r[0] for r in rows],
            "__time": [at(r[1]) for r in rows],
            "__created": [at(r[2]) for r in rows],
            "value": [r[3] for r in rows],
        },
        schema={"k": pl.Int64, "__time": asof_join.STAMP, "__created": asof_join.STAMP, "value": pl.Int64},
    )
    moments = sorted(moments, key=lambda m: m[1])
    left = pl.DataFrame(
        {"e": [k for k, _ in moments], "t": [at(t) for _, t in moments]}, schema={"e": pl.Int64, "t": asof_join.STAMP}
    )
    limit = None if ttl is None else timedelta(seconds=ttl) or timedelta(microseconds=1)
    joined = asof_join.join(left, "t", frame, [("e", "k")], {"v": "value"}, limit, known)
    assert joined.drop("v").equals(left)
    span = None if ttl is None else (ttl or 1e-6)
    assert joined["v"].to_list() == [reference(rows, key, moment, span, known) for key, moment in moments]


@pytest.fixture
def world(tmp_path):
    """A view whose file names its columns differently, with late and missing rows, and its store."""
    draw = np.random.default_rng(0)
    n = 400
    seconds = draw.choice(4000, n, replace=False)  # Feast's own store takes either of two equal times
    frame = pl.DataFrame(
        {
            "shop": draw.integers(0, 6, n),
            "when": [at(int(s)) for s in seconds],
            "known": [at(int(s) + int(d)) for s, d in zip(seconds, draw.choice([0, 0, 600], n), strict=True)],
            "raw_value": np.arange(n, dtype=np.float32),
        }
    )
    (tmp_path / "data").mkdir()
    frame.write_parquet(tmp_path / "data" / "prices.parquet")

    def store(kind=STORE):
        root = {"root": str(tmp_path / "data")} if kind == STORE else {}
        path = "prices.parquet" if kind == STORE else str(tmp_path / "data" / "prices.parquet")
        shop = Entity(name="shop", join_keys=["shop"], value_type=ValueType.INT64)
        source = FileSource(
            name="prices",
            path=path,
            timestamp_field="when",
            created_timestamp_column="known",
            field_mapping={"raw_value": "value"},
        )
        view = FeatureView(
            name="prices",
            entities=[shop],
            schema=[Field(name="shop", dtype=Int64), Field(name="value", dtype=Float32)],
            source=source,
            ttl=timedelta(seconds=900),
        )
        name = kind.rsplit(".", 1)[-1]
        feast = FeatureStore(
            config=RepoConfig(
                project="world",
                provider="local",
                registry=str(tmp_path / f"{name}.registry"),
                offline_store={"type": kind, **root},
                online_store={"type": "sqlite", "path": str(tmp_path / f"{name}.db")},
                entity_key_serialization_version=3,
            )
        )
        feast.apply([shop, source, view])
        return feast

    moments = draw.choice(5000, 300, replace=False)  # Feast's own store drops equal entity rows
    entities = pd.DataFrame(
        {"shop": draw.integers(0, 8, 300), "event_timestamp": [at(int(m)) for m in moments], "note": np.arange(300)}
    )
    return store, entities, frame


def values(job):
    return job.to_df().set_index("note")["value"].sort_index()


@pytest.mark.parametrize("known", [False, True])
def test_same_rows_as_feasts_own_store(world, known):
    """Feast's own store also drops an entity row whose candidates are all too old; ours keeps it, empty."""
    store, entities, _ = world
    ours, theirs = (
        values(store(kind).get_historical_features(entities, ["prices:value"], filter_by_created_timestamp=known))
        for kind in (STORE, "dask")
    )
    np.testing.assert_array_equal(ours[theirs.index], theirs)
    assert ours[~ours.index.isin(theirs.index)].isna().all()
    assert len(ours) == 300
    assert 0 < ours.isna().sum() < 300


def test_entity_rows_come_back_in_their_order_with_all_columns(world):
    store, entities, _ = world
    frame = store().get_historical_features(entities, ["prices:value"]).to_df()
    assert frame["note"].tolist() == entities["note"].tolist()
    assert list(frame.columns) == ["shop", "event_timestamp", "note", "value"]
    assert str(frame["event_timestamp"].dt.tz) == "UTC"
    assert frame["value"].dtype == np.float32


def test_full_names_times_without_zone_and_small_keys(world):
    store, entities, _ = world
    plain = values(store().get_historical_features(entities, ["prices:value"]))
    other = entities.assign(
        shop=entities["shop"].astype(np.int32), event_timestamp=entities["event_timestamp"].dt.tz_localize(None)
    )
    frame = store().get_historical_features(other, ["prices:value"], full_feature_names=True).to_df()
    np.testing.assert_array_equal(frame["prices__value"], plain)


def test_without_entity_rows_all_entities_as_of_the_end(world):
    store, _, frame = world
    end = at(2500)
    found = store().get_historical_features(None, ["prices:value"], start_date=at(2000), end_date=end).to_df()
    rows = [(k, t, c, v) for k, t, c, v in frame.iter_rows()]
    recent = sorted(frame.filter(pl.col("when").is_between(at(2000), end))["shop"].unique())
    assert found["shop"].tolist() == recent
    expected = [reference(rows, shop, end, timedelta(seconds=900), known=False) for shop in recent]
    assert found["value"].tolist() == expected


def test_materialize_takes_the_newest_row_the_end_included(world):
    """The last row at the very end date is the one that counts (Feast issue 5228)."""
    store, _, frame = world
    feast = store()
    last = frame["when"].max()
    feast.materialize(START - timedelta(days=1), last)
    rows = [(k, t, c, v) for k, t, c, v in frame.iter_rows()]
    online = feast.get_online_features(["prices:value"], [{"shop": shop} for shop in range(6)]).to_dict()
    assert online["value"] == [reference(rows, shop, last, None, known=False) for shop in range(6)]
    assert frame.filter(pl.col("when") == last)["raw_value"][-1] in online["value"]


def test_pull_all_honours_both_ends(world):
    store, _, frame = world
    feast = store()
    source = feast.get_data_source("prices")
    offline = feast._get_provider().offline_store
    start, end = frame["when"].min(), frame["when"].sort()[200]
    for edges in ((start, end), (None, end), (end, None)):
        job = offline.pull_all_from_table_or_query(
            feast.config, source, ["shop"], ["raw_value"], "when", "known", edges[0], edges[1]
        )
        got = pl.from_arrow(job.to_arrow())
        expected = frame.filter(
            pl.col("when") >= (edges[0] or start), pl.col("when") <= (edges[1] or frame["when"].max())
        )
        assert sorted(got["raw_value"]) == sorted(expected["raw_value"])
        assert got.columns == ["shop", "raw_value", "when", "known"]


def test_persist_writes_the_result_once(world, tmp_path):
    store, entities, _ = world
    job = store().get_historical_features(entities, ["prices:value"])
    place = SavedDatasetFileStorage(path=str(tmp_path / "saved.parquet"))
    job.persist(place)
    assert pl.read_parquet(tmp_path / "saved.parquet").height == 300
    with pytest.raises(Exception, match="already exists"):
        job.persist(place)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda e: e.drop(columns="shop"), "shop"),
        (lambda e: e.drop(columns="event_timestamp"), "event_timestamp"),
        (lambda e: "SELECT 1", "pandas DataFrame"),
    ],
)
def test_bad_entity_rows_are_refused(world, change, words):
    store, entities, _ = world
    with pytest.raises(ValueError, match=words):
        store().get_historical_features(change(entities), ["prices:value"]).to_df()


def test_missing_file_is_named(world, tmp_path):
    store, entities, _ = world
    feast = store()
    (tmp_path / "data" / "prices.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"prices\.parquet"):
        feast.get_historical_features(entities, ["prices:value"]).to_df()
