"""The simulator draws the published data set; its constants are public."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest

from seaway.errors import SeawayError
from workload import simulator

TINY = {"customers": 60, "terminals": 120, "days": 40}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    out = tmp_path_factory.mktemp("published") / "events.parquet"
    simulator.generate(simulator.PUBLISHED, out)
    return pl.read_parquet(out)


def test_published_counts(published):
    assert published.height == 1_754_155
    counts = dict(published["TX_FRAUD_SCENARIO"].value_counts().rows())
    assert counts == {0: 1_739_474, 1: 973, 2: 9_077, 3: 4_631}
    assert (published["TX_FRAUD"] == (published["TX_FRAUD_SCENARIO"] > 0)).all()


def test_published_first_and_last_rows(published):
    columns = ["TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT"]
    rows = published.select(columns)
    assert rows.head(3).rows() == [
        (0, dt.datetime(2018, 4, 1, 0, 0, 31), 596, 3156, 57.16),
        (1, dt.datetime(2018, 4, 1, 0, 2, 10), 4961, 3412, 81.51),
        (2, dt.datetime(2018, 4, 1, 0, 7, 56), 2, 1365, 146.00),
    ]
    assert rows.tail(1).rows() == [(1_754_154, dt.datetime(2018, 9, 30, 23, 59, 57), 3542, 9849, 23.59)]
    assert published["TX_DATETIME"].is_sorted()
    assert published["TX_DATETIME"].dtype == pl.Datetime("us")


def test_published_folds_have_the_known_sizes(published):
    """Single split of the book's chapter 3: 67,240 training rows with 598 frauds, 58,264 assessed with 385."""
    from workload.folds import split

    days = published["TX_DATETIME"].dt.epoch("d").to_numpy()
    labels = published["TX_FRAUD"].to_numpy()
    (fold,) = split(days, published["CUSTOMER_ID"].to_numpy(), labels, (67,))
    assert (len(fold.train), labels[fold.train].sum()) == (67_240, 598)
    assert (len(fold.assess), labels[fold.assess].sum()) == (58_264, 385)


def test_the_same_scale_gives_the_same_file(tmp_path):
    for name in ("a", "b"):
        simulator.generate(TINY, tmp_path / f"{name}.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_neither_processes_nor_blocks_change_anything(tmp_path, monkeypatch):
    simulator.generate(TINY, tmp_path / "one.parquet")
    monkeypatch.setattr(simulator, "CUSTOMERS_PER_BLOCK", 20)
    monkeypatch.setattr(simulator, "ROW_GROUP", 100)
    simulator.generate(TINY, tmp_path / "blocks.parquet")
    monkeypatch.setattr(simulator, "PUBLISHED", {**simulator.PUBLISHED})
    monkeypatch.setattr(simulator.os, "cpu_count", lambda: 2)
    drawn = []
    for many in (20, 60):  # of customers: beyond twice as many, processes draw
        monkeypatch.setitem(simulator.PUBLISHED, "customers", many)
        folder = tmp_path / str(many)
        folder.mkdir()
        drawn.append([np.load(block / f"{n}.npy") for block in simulator._draw(TINY, folder) for n in simulator.NAMES])
    assert all(np.array_equal(a, b) for a, b in zip(*drawn, strict=True))
    assert len(drawn[0]) == 3 * 4
    one = pl.read_parquet(tmp_path / "one.parquet")
    assert one.equals(pl.read_parquet(tmp_path / "blocks.parquet"))
    assert one.height == sum(len(column) for column in drawn[0][::4])


def test_picks_of_a_day_are_those_of_a_pandas_sample():
    import pandas as pd

    for day in range(40):
        for size, n in ((10_000, 2), (5_000, 3), (120, 1)):
            expected = pd.Series(np.arange(size)).sample(n=n, random_state=day).to_numpy()
            assert np.array_equal(np.random.RandomState(day).choice(size, n, replace=False), expected)


@pytest.mark.parametrize("wrong", [{"customers": 2}, {"terminals": 1}, {"days": 0}])
def test_a_scale_that_cannot_be_drawn_is_refused(tmp_path, wrong):
    with pytest.raises(SeawayError, match=next(iter(wrong))):
        simulator.generate({**TINY, **wrong}, tmp_path / "x.parquet")
    assert not list(tmp_path.iterdir())
