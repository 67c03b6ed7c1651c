"""The feature step on the toy workload."""

import dataclasses
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from components.features.step import features
from seaway.errors import SeawayError
from tests.feature_repo import world
from tests.feature_repo.toy.definitions import SPEC


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    return world.made_features(folder)


@pytest.fixture
def workload(tmp_path):
    return world.config(tmp_path).workload


def test_main_table_has_what_the_later_steps_need(made):
    table = pl.read_parquet(made / "features.parquet")
    assert table.height == 3000
    wanted = {"id", "event_timestamp", "at", "person", "shop", "returned", "label_known_at", "input__price"}
    window_names = [name for w in SPEC.windows for name in w.names]
    assert set(table.columns) == wanted | {"price", "weekend", "night", *window_names}
    assert {table.schema[name] for name in ("price", "weekend", "night", *window_names)} == {pl.Float32}
    assert table["input__price"].equals(world.events()["price"].alias("input__price"))  # not rounded to float32
    assert (table["label_known_at"] - table["at"] == timedelta(days=2)).all()
    assert table["event_timestamp"].is_unique().all()


def test_a_row_seen_by_hand(made):
    table, events = pl.read_parquet(made / "features.parquet"), world.events()
    row, event = table.row(2500, named=True), events.row(2500, named=True)
    second = pl.col("at").dt.truncate("1s")
    now = event["at"].replace(microsecond=0)
    mine = events.head(2501).filter(pl.col("person") == event["person"], second > now - timedelta(days=3))
    assert row["visits_3d"] == mine.height
    assert row["price_3d"] == pytest.approx(mine["price"].mean(), rel=1e-6)
    end = now - timedelta(days=2)
    shop = events.filter(pl.col("shop") == event["shop"], second <= end, second > end - timedelta(days=4))
    assert (row["shop_visits_4d"], row["shop_returns_4d"]) == (shop.height, np.float32(shop["returned"].mean()))


def test_view_files_are_for_feast(made):
    table = pl.read_parquet(made / "features.parquet")
    for window in SPEC.windows:
        view = pl.read_parquet(made / f"{window.view}.parquet")
        assert view.columns == [window.key, "event_timestamp", "created_timestamp", *window.names]
        assert view.drop("created_timestamp").equals(table.select(window.key, "event_timestamp", *window.names))
        assert (view["created_timestamp"] == view["event_timestamp"]).all()


def test_other_sources_count_from_the_next_whole_second(made):
    view, ratings = pl.read_parquet(made / "rating.parquet"), world.ratings()
    assert view.columns == ["shop", "event_timestamp", "created_timestamp", "stars"]
    assert (view["created_timestamp"] == ratings["rated_at"]).all()
    assert (view["event_timestamp"] >= ratings["rated_at"]).all()
    assert (view["event_timestamp"] - ratings["rated_at"]).max() == timedelta(milliseconds=500)


def test_summary(tmp_path, workload):
    summary = features(workload, SPEC, world.valid(tmp_path / "valid", rows=50), tmp_path / "out")
    assert (summary["rows"], summary["features"], summary["views"]) == (50, 12, ["spending", "returns", "rating"])
    assert summary["feature_hash"] == SPEC.hash


def changed(**changes):
    return dataclasses.replace(SPEC, windows=(SPEC.windows[0], dataclasses.replace(SPEC.windows[1], **changes)))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (changed(delay="1d"), "known only after 2d"),
        (changed(delay="0d"), "known only after 2d"),
        (changed(value="missing"), "'missing' must be a numeric column"),
        (changed(key="at"), "'at' must be an integer column"),
        (changed(value="returned", include_current=True, delay="0d"), "known only"),
        (dataclasses.replace(SPEC, time="when"), "time column"),
        (dataclasses.replace(SPEC, inputs=("person", "shop", "at")), "must be an input"),
        (dataclasses.replace(SPEC, latest=(dataclasses.replace(SPEC.latest[0], source="none"),)), "does not have"),
    ],
)
def test_definitions_that_do_not_fit_are_refused(tmp_path, workload, spec, words):
    with pytest.raises(SeawayError, match=words):
        features(workload, spec, world.valid(tmp_path / "valid", rows=20), tmp_path / "out")


def test_data_that_does_not_fit_is_refused(tmp_path, workload):
    folder = world.valid(tmp_path / "valid", rows=20)
    events = pl.read_parquet(folder / "visits.parquet")
    for broken, words in (
        (events.reverse(), "sorted"),
        (events.with_columns(pl.when(pl.col("id") > 3).then(pl.col("price")).alias("price")), "empty rows"),
    ):
        broken.write_parquet(folder / "visits.parquet")
        with pytest.raises(SeawayError, match=words):
            features(workload, SPEC, folder, tmp_path / "out")
    with pytest.raises(SeawayError, match="validation step"):
        features(workload, SPEC, tmp_path, tmp_path / "out")
