"""The data set step: splits, the join through Feast, and that nothing from later gets in."""

import shutil
from datetime import datetime, timedelta

import polars as pl
import pytest

from components.dataset.step import dataset, splits
from seaway.errors import SeawayError
from seaway.feast_store import apply, open_feature_store
from tests.feature_repo import world
from tests.feature_repo.toy.definitions import SPEC

SPLITS = ("sweep_train", "valid", "train", "test", "replay")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    features = world.made_features(folder)
    summary = dataset(world.config(folder), SPEC, features, folder / "out")
    return folder, features, summary


def test_splits_are_a_label_delay_apart(made):
    folder, _, summary = made
    periods = splits(world.config(folder).workload, datetime(2024, 1, 25))
    days = {name: tuple(edge.day for edge in period) for name, period in periods.items()}
    assert days == {"sweep_train": (10, 15), "valid": (17, 19), "train": (14, 19), "test": (21, 23), "replay": (23, 25)}
    assert {name: (summary[name]["start"], summary[name]["end"]) for name in SPLITS} == {
        name: (str(start), str(end)) for name, (start, end) in periods.items()
    }


def test_rows_are_the_events_of_the_split_with_the_tables_features(made):
    folder, features, summary = made
    table = pl.read_parquet(features / "features.parquet")
    for name in SPLITS:
        rows = pl.read_parquet(folder / "out" / f"{name}.parquet")
        start, end = (datetime.fromisoformat(summary[name][edge]) for edge in ("start", "end"))
        events = table.filter(pl.col("at") >= start, pl.col("at") < end)
        assert rows.height == events.height == summary[name]["rows"] > 0
        assert rows.select(events.columns).equals(events)
        assert summary[name]["positives"] == events["returned"].sum()
        assert [rows.schema[n] for n in SPEC.names] == [pl.Float32] * len(SPEC.names)


def test_other_source_is_joined_as_of_the_event(made):
    folder, _, _ = made
    rows = pl.concat([pl.read_parquet(folder / "out" / f"{name}.parquet") for name in ("train", "replay")])
    ratings, seen = world.ratings().with_row_index("order"), set()
    for row in rows.iter_rows(named=True):
        second = row["at"].replace(microsecond=0)
        known = ratings.filter(pl.col("shop") == row["shop"], pl.col("rated_at") <= second)
        newest = known.sort("rated_at", "order").tail(1).to_dicts()
        made_at = newest[0]["rated_at"] if newest else None
        if made_at is not None and made_at.microsecond:
            made_at = made_at.replace(microsecond=0) + timedelta(seconds=1)
        fresh = made_at is not None and second - made_at <= timedelta(days=3)
        expected = pl.Series([newest[0]["stars"]]).cast(pl.Float32)[0] if fresh else -1.0
        assert row["stars"] == expected, row
        seen.add((bool(newest), fresh))
    assert {(True, True), (True, False), (False, False)} <= seen


def test_what_became_known_after_the_event_never_reaches_its_row(made, tmp_path):
    """Backfilled rows, dated exactly at or just before their events, known an hour later."""
    folder, features, _ = made
    leaky = tmp_path / "features"
    shutil.copytree(features, leaky)
    late = timedelta(hours=1)
    for view, name in (("spending", "visits_1d"), ("returns", "shop_returns_4d"), ("rating", "stars")):
        rows = pl.read_parquet(leaky / f"{view}.parquet")
        planted = rows.with_columns(
            (pl.col("created_timestamp") + late).alias("created_timestamp"), pl.lit(999, pl.Float32).alias(name)
        )
        pl.concat([rows, planted]).sort("event_timestamp", maintain_order=True).write_parquet(leaky / f"{view}.parquet")
    dataset(world.config(tmp_path), SPEC, leaky, tmp_path / "out")
    for name in SPLITS:
        ours = pl.read_parquet(tmp_path / "out" / f"{name}.parquet")
        clean = pl.read_parquet(folder / "out" / f"{name}.parquet")
        window_names = [n for w in SPEC.windows for n in w.names]
        assert ours.select(window_names).equals(clean.select(window_names)), name
    # an hour after it, a late rating counts; before, it must not
    assert 0 < (ours["stars"] == 999).sum() < ours.height
    events = ours.filter(pl.col("stars") == 999)
    ratings = pl.read_parquet(leaky / "rating.parquet").filter(pl.col("stars") == 999)
    joined = events.sort("event_timestamp").join_asof(
        ratings.sort("created_timestamp"),
        by="shop",
        left_on="event_timestamp",
        right_on="created_timestamp",
        check_sortedness=False,
    )
    assert joined["stars_right"].null_count() == 0

    # the plant does leak where created timestamps are not looked at: the test above can fail
    config = world.config(tmp_path)
    store = open_feature_store(config, leaky, tmp_path / "r.db", {"type": "sqlite", "path": str(tmp_path / "o.db")})
    apply(store, config)
    entities = clean.select("person", pl.col("event_timestamp").dt.replace_time_zone("UTC")).to_pandas()
    leaked = store.get_historical_features(entities, ["spending:visits_1d"]).to_df()
    assert (leaked["visits_1d"] == 999).all()


def test_too_little_data_is_a_clear_error(tmp_path):
    features = world.made_features(tmp_path, rows=100, days=6)
    with pytest.raises(SeawayError, match=r"split 'sweep_train' .* has no event"):
        dataset(world.config(tmp_path), SPEC, features, tmp_path / "out")
