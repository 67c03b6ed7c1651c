"""The as-of join over tables in parts: the rows of the join over one file, reading only as far back as it must."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seaway import asof_join, parts
from seaway.feast_import import import_feast

import_feast()
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType  # noqa: E402
from feast.types import Float32, Int64  # noqa: E402

START = datetime(2024, 1, 1, tzinfo=UTC)
QUARTER = timedelta(hours=6)

# (key, quarter of a day, quarters until known); the key 3 has no row
ROWS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 320), st.integers(-3, 40)), min_size=1, max_size=40)
MOMENTS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 340)), min_size=1, max_size=20)


@given(ROWS, MOMENTS, st.sampled_from([None, 1, 9, 200]), st.booleans())
@settings(max_examples=200, deadline=None)
def test_reading_backwards_finds_the_same_rows(rows, moments, ttl, known):
    frame = pl.DataFrame(
        {
            "k": [k for k, _, _ in rows],
            "__time": [START + q * QUARTER for _, q, _ in rows],
            "__created": [START + (q + lag) * QUARTER for _, q, lag in rows],
            "value": list(range(len(rows))),
        },
        schema={"k": pl.Int64, "__time": asof_join.STAMP, "__created": asof_join.STAMP, "value": pl.Int64},
    )
    moments = sorted(moments, key=lambda m: m[1])
    left = pl.DataFrame(
        {"e": [k for k, _ in moments], "t": [START + q * QUARTER for _, q in moments]},
        schema={"e": pl.Int64, "t": asof_join.STAMP},
    )
    asked = []

    def between(start, end):
        asked.append((start, end))
        return frame.filter(pl.col("__time").is_between(start, end))

    limit = ttl and ttl * QUARTER
    wanted = asof_join.join(left, "t", frame, [("e", "k")], {"v": "value"}, limit, known)
    found = asof_join.join_backwards(left, "t", between, START, [("e", "k")], {"v": "value"}, limit, known)
    assert found.equals(wanted)
    for (start, end), (later, _) in zip(asked[1:], asked, strict=False):
        assert start <= end < later, "a stretch twice"
    if limit:
        assert all(end >= left["t"].min() - limit for _, end in asked[1:]), "read what is too old to count"


def test_no_more_is_read_than_until_every_row_has_found_its_own():
    times = [START + day * timedelta(days=1) for day in range(90)]
    rows = pl.DataFrame({"k": [1] * 90, "__time": pl.Series(times, dtype=asof_join.STAMP), "value": range(90)})
    asked = []

    def between(start, end):
        asked.append((start, end))
        return rows.filter(pl.col("__time").is_between(start, end))

    moments = pl.Series([times[80], times[81]], dtype=asof_join.STAMP)
    for keys, stretches in (([1, 1], 1), ([1, 2], 4)):  # the last day or two, then 1, 2, 4, ... days up to the ttl
        asked.clear()
        left = pl.DataFrame({"e": keys, "t": moments})
        found = asof_join.join_backwards(
            left, "t", between, START, [("e", "k")], {"v": "value"}, timedelta(days=5), known=False
        )
        assert found["v"].to_list() == [80, 81 if keys[1] == 1 else None]
        assert len(asked) == stretches


@pytest.fixture
def stores(tmp_path):
    """The same view over one file and over a folder of days, some of whose rows are dated at the next midnight."""
    draw = np.random.default_rng(0)
    n = 600
    known = np.sort(draw.integers(0, 60 * 86_400, n))
    known[::20] = known[::20] // 86_400 * 86_400 + 86_399
    known = np.sort(known)
    dated = known + (known % 86_400 == 86_399)
    frame = pl.DataFrame(
        {
            "shop": draw.integers(0, 30, n),
            "when": [START + timedelta(seconds=int(s)) for s in dated],
            "known": [START + timedelta(seconds=int(s)) for s in known],
            "raw_value": np.arange(n, dtype=np.float32),
        }
    )
    (tmp_path / "file").mkdir()
    frame.write_parquet(tmp_path / "file" / "prices.parquet")
    for (day,), rows in frame.group_by(pl.col("known").dt.date(), maintain_order=True):
        parts.write(rows, tmp_path / "parts" / "prices.parquet", day)

    def store(kind):
        shop = Entity(name="shop", join_keys=["shop"], value_type=ValueType.INT64)
        source = FileSource(
            name="prices", path="prices.parquet", timestamp_field="when", created_timestamp_column="known",
            field_mapping={"raw_value": "value"},
        )  # fmt: skip
        schema = [Field(name="shop", dtype=Int64), Field(name="value", dtype=Float32)]
        view = FeatureView(name="prices", entities=[shop], schema=schema, source=source, ttl=timedelta(days=9))
        feast = FeatureStore(
            config=RepoConfig(
                project="world", provider="local", registry=str(tmp_path / f"{kind}.registry"),
                offline_store={"type": "seaway.feast_asof.AsOfOfflineStore", "root": str(tmp_path / kind)},
                online_store={"type": "sqlite", "path": str(tmp_path / f"{kind}.db")},
                entity_key_serialization_version=3,
            )
        )  # fmt: skip
        feast.apply([shop, source, view])
        return feast

    return {kind: store(kind) for kind in ("file", "parts")}


@pytest.mark.parametrize("known", [False, True])
def test_a_folder_of_days_is_one_table_for_feast(stores, known):
    draw = np.random.default_rng(1)
    seconds = np.concatenate([draw.integers(0, 65 * 86_400, 200), np.arange(1, 61) * 86_400])
    entities = pd.DataFrame(
        {"shop": draw.integers(0, 32, 260), "event_timestamp": [START + timedelta(seconds=int(s)) for s in seconds]}
    )
    one, many = (
        store.get_historical_features(entities, ["prices:value"], filter_by_created_timestamp=known).to_df()
        for store in stores.values()
    )
    pd.testing.assert_frame_equal(many, one)
    assert 0 < one["value"].isna().sum() < 260


def test_materialize_and_pulls_read_the_same_of_a_folder(stores):
    start, end = START + timedelta(days=20), START + timedelta(days=40)
    found = []
    for feast in stores.values():
        feast.materialize(start, end)
        found.append(feast.get_online_features(["prices:value"], [{"shop": shop} for shop in range(30)]).to_dict())
        source, offline = feast.get_data_source("prices"), feast._get_provider().offline_store
        for edges in ((start, end), (None, end), (start, None)):
            job = offline.pull_all_from_table_or_query(
                feast.config, source, ["shop"], ["raw_value"], "when", "known", *edges
            )
            found.append(pl.from_arrow(job.to_arrow()).to_dict(as_series=False))
    half = len(found) // 2
    assert found[:half] == found[half:]
    assert any(value is not None for value in found[0]["value"])


def test_parts_are_named_by_their_day(tmp_path):
    table = tmp_path / "t.parquet"
    for day in (3, 1, 2):
        parts.write(pl.DataFrame({"day": [day]}), table, date(2024, 1, day))
    assert parts.read(table)["day"].to_list() == [1, 2, 3] == pl.read_parquet(table)["day"].to_list()
    assert parts.read(table, date(2024, 1, 2))["day"].to_list() == [2, 3]
    assert parts.read(table, end=date(2024, 1, 2), columns=["day"])["day"].to_list() == [1]
    empty = parts.read(table, date(2025, 1, 1))
    assert (empty.height, empty.columns) == (0, ["day"])
    (table / "other.parquet").write_bytes(b"")
    with pytest.raises(Exception, match="not named by its day"):
        parts.days(table)
