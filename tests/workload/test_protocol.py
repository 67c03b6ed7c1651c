"""The protocol's folds, removals and metrics by hand, and one run of the whole on a small draw."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from seaway.errors import SeawayError
from workload import protocol
from workload.folds import TEST_STARTS, VALIDATION_STARTS, assessed, split


def test_customers_known_to_be_hit_are_left_out():
    # fold of training days 0-6; assessment days 14-20, two rows a day: customers 1 and 2, later 3
    hits = [(0, 9), (7, 1), (9, 2)]  # (day, customer)
    rows = [(day, customer, 1) for day, customer in hits]
    rows += [(day, customer, 0) for day in range(14, 21) for customer in (1, 2, 9)]
    rows += [(20, 3, 1)]
    days, customers, labels = (np.array(column) for column in zip(*rows, strict=True))
    kept = [(int(days[r]), int(customers[r])) for r in assessed(days, customers, labels, 0)]
    # customer 9 is known from the start; 1, hit on day 7, from day 15; 2, hit on day 9, from day 17
    assert kept == [(14, 1), (14, 2), (15, 2), (16, 2), (20, 3)]


def test_published_dates_of_the_folds():
    days = np.repeat(np.arange(183), 2)  # day 0 is 1 April 2018
    labels = np.tile([0, 1], 183)
    customers = np.arange(len(days))
    first = [str(np.datetime64("2018-04-01") + f.start) for f in split(days, customers, labels, TEST_STARTS)]
    assert first == ["2018-08-15", "2018-08-08", "2018-08-01", "2018-07-25"]
    first = [str(np.datetime64("2018-04-01") + f.start) for f in split(days, customers, labels, VALIDATION_STARTS)]
    assert first == ["2018-07-11", "2018-07-04", "2018-06-27", "2018-06-20"]


def test_longer_history_changes_training_rows_only():
    days = np.repeat(np.arange(183), 2)
    labels, customers = np.tile([0, 1], 183), np.arange(366)
    short, long = (split(days, customers, labels, TEST_STARTS, history)[0] for history in (7, 28))
    assert np.array_equal(short.assess, long.assess)
    assert set(days[long.train]) == set(range(short.start - 21, short.start + 7))
    assert days[long.train].max() + 7 < days[long.assess].min()  # every training label has come in


def test_card_precision_by_hand():
    """Day 0: of three cards one is hit and found; it is left out on day 1, where a new one is found."""
    about = {
        "days": np.array([0, 0, 0, 0, 1, 1, 1]),
        "customers": np.array([1, 1, 2, 3, 1, 2, 4]),
        "labels": np.array([0, 1, 0, 0, 1, 0, 1]),
    }
    found = protocol.measure(about, np.arange(7), np.array([0.9, 0.1, 0.5, 0.4, 0.99, 0.2, 0.3]))
    assert found["card_precision_at_100"] == pytest.approx((1 / 100 + 1 / 100) / 2)
    assert found["auc_roc"] == pytest.approx(5 / 12)  # pairs won: .99 all four, .3 one, .1 none
    assert found["average_precision"] == pytest.approx((1 / 1 + 2 / 5 + 3 / 7) / 3)


def test_short_data_and_missing_columns_are_refused(events):
    with pytest.raises(SeawayError, match="needs 103 days"):
        protocol.published(events.filter(pl.col("TX_DATETIME") < pl.datetime(2018, 6, 1)))
    with pytest.raises(SeawayError, match="TX_FRAUD"):
        protocol.published(events.drop("TX_FRAUD"))


def test_whole_protocol_on_a_small_draw(events, tmp_path, monkeypatch):
    tiny = {"learning_rate": 1e-2, "hidden": 8, "layers": 1, "batch_size": 256, "members": 2, "epochs": 3}
    tiny["negatives"] = 0.1
    row = {**protocol.ROWS["own-features"], "grid": [tiny, {**tiny, "dropout": 0.5}]}
    monkeypatch.setitem(protocol.ROWS, "own-features", row)
    path, lines = tmp_path / "events.parquet", []
    events.write_parquet(path)
    names = ["own-features"]
    result = protocol.published(path, progress=lines.append, rows=names)
    json.dumps(result, allow_nan=False)
    assert 0 < result["card_precision_ceiling"] <= 1
    for name in names:
        assert 0.6 < result[name]["auc_roc"] < 1
        assert len(result[name]["folds"]["average_precision"]) == 4
        assert result[name]["card_precision_at_100"] <= result["card_precision_ceiling"]
        best = max(v["auc_roc"] for v in result[name]["validation"])
        (chosen,) = (v for v in result[name]["validation"] if v["params"] == result[name]["chosen"]["auc_roc"])
        assert chosen["auc_roc"] == best
    assert any("own-features" in line for line in lines)
    text = protocol.render(result)
    assert f"{result['card_precision_ceiling']:.3f}" in text and "XGBoost" in text
    assert f"{result['own-features']['auc_roc']:.3f}±" in text


SLOW = """
import sys
from workload import protocol
if __name__ == "__main__":
    row = protocol.ROWS["published-features"]
    row["grid"] = [{**row["grid"][0], "epochs": 100_000}]
    protocol.published(sys.argv[1], progress=lambda text: print(text, flush=True), rows=["published-features"])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks the Linux kernel")
def test_workers_die_with_a_killed_parent(events, tmp_path):
    path, script = tmp_path / "events.parquet", tmp_path / "slow.py"
    events.write_parquet(path)
    script.write_text(SLOW)
    environment = {**os.environ, "PYTHONPATH": str(Path(protocol.__file__).parents[1])}
    command = [sys.executable, str(script), str(path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert any("validation folds" in line for line in iter(parent.stdout.readline, ""))
            children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
            until = time.monotonic() + 60
            while len(workers := children.read_text().split()) < 3 and time.monotonic() < until:  # and their tracker
                time.sleep(0.05)
        finally:
            parent.send_signal(signal.SIGKILL)
    assert len(workers) == 3
    until = time.monotonic() + 60
    while (left := [w for w in workers if _alive(w)]) and time.monotonic() < until:
        time.sleep(0.1)
    for pid in left:
        os.kill(int(pid), signal.SIGKILL)
    assert not left


def _alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
