"""The fifteen published features against a plain pandas computation, and no look ahead in our own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from feature_repo.definitions import FEATURES
from seaway.features import DAY, MICRO
from workload.own_features import LONG_AGO, own_features
from workload.protocol import features


def _pandas(columns: dict) -> pd.DataFrame:
    """The book's definitions, with rolling windows over a time index, group by group."""
    frame = pd.DataFrame(columns)
    when = frame["TX_DATETIME"] = pd.to_datetime(frame["TX_DATETIME"], unit="us")
    frame["TX_DURING_WEEKEND"] = (when.dt.weekday >= 5).astype(float)
    frame["TX_DURING_NIGHT"] = (when.dt.hour <= 6).astype(float)
    for _, group in frame.groupby("CUSTOMER_ID"):
        amounts = group.set_index("TX_DATETIME")["TX_AMOUNT"]
        for n in (1, 7, 30):
            rolling = amounts.rolling(f"{n}D")
            frame.loc[group.index, f"CUSTOMER_ID_NB_TX_{n}DAY_WINDOW"] = rolling.count().to_numpy()
            frame.loc[group.index, f"CUSTOMER_ID_AVG_AMOUNT_{n}DAY_WINDOW"] = rolling.mean().to_numpy()
    for _, group in frame.groupby("TERMINAL_ID"):
        labels = group.set_index("TX_DATETIME")["TX_FRAUD"]
        late = labels.rolling("7D")
        for n in (1, 7, 30):
            all_of = labels.rolling(f"{7 + n}D")
            count = (all_of.count() - late.count()).to_numpy()
            bad = (all_of.sum() - late.sum()).to_numpy()
            frame.loc[group.index, f"TERMINAL_ID_NB_TX_{n}DAY_WINDOW"] = count
            frame.loc[group.index, f"TERMINAL_ID_RISK_{n}DAY_WINDOW"] = np.divide(
                bad, count, out=np.zeros_like(bad), where=count > 0
            )
    return frame


def test_published_features_equal_a_pandas_computation(columns):
    keep = columns["CUSTOMER_ID"] < 80
    part = {name: column[keep] for name, column in columns.items()}
    expected = _pandas(part)[list(FEATURES.names)].to_numpy()
    found = features(part, own=False)[False]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    assert (found[:, -1] > 0).any()  # some terminal has a known positive


@pytest.mark.parametrize("row", [3_000, 30_000, 60_000])
def test_own_features_do_not_look_ahead(columns, row):
    """Events after a row, and labels not known yet at it, change nothing in it."""
    times = columns["TX_DATETIME"]
    before = own_features(columns, times)
    changed = {name: column.copy() for name, column in columns.items()}
    unknown = times // MICRO > times[row] // MICRO - 7 * DAY // MICRO
    changed["TX_FRAUD"][unknown] = 1 - changed["TX_FRAUD"][unknown]
    changed["TX_AMOUNT"][row + 1 :] *= 7
    after = own_features(changed, times)
    for name in before:
        assert np.array_equal(before[name][: row + 1][-1:], after[name][: row + 1][-1:]), name
    assert any(not np.array_equal(before[name][row + 1 :], after[name][row + 1 :]) for name in before)


def test_own_features_use_what_is_known(columns):
    times = columns["TX_DATETIME"]
    row = 60_000
    same = columns["TERMINAL_ID"] == columns["TERMINAL_ID"][row]
    known = np.flatnonzero(same & (times // MICRO <= times[row] // MICRO - 7 * DAY // MICRO))
    changed = {name: column.copy() for name, column in columns.items()}
    changed["TX_FRAUD"][known[-1]] = 1
    changed["TX_AMOUNT"][known[-1]] = 1.0
    assert own_features(changed, times)["TERMINAL_RUN_LENGTH"][row] > 0


def test_run_of_frauds_by_hand():
    days = np.array([0, 1, 2, 3, 4, 10.5, 11, 30])
    labels = np.array([0, 1, 1, 0, 1, 0, 0, 0])
    columns = {
        "CUSTOMER_ID": np.arange(8),  # no history of anyone: every amount is ordinary
        "TERMINAL_ID": np.zeros(8, dtype=np.int64),
        "TX_AMOUNT": np.full(8, 20.0),
        "TX_FRAUD": labels,
    }
    out = own_features(columns, (days * DAY).astype(np.int64))
    # at day 10.5 the events up to day 3.5 are known: the newest is good (day 3), the newest fraud on day 2
    at = 5
    assert out["TERMINAL_RUN_AGE"][at] == LONG_AGO and out["TERMINAL_RUN_LENGTH"][at] == 0
    assert out["TERMINAL_GOOD_AGE"][at] == 7.5 and out["TERMINAL_FRAUD_AGE"][at] == 8.5
    # at day 11 the fraud of day 4 has just become known: a run of one after the good event of day 3
    at = 6
    assert out["TERMINAL_RUN_AGE"][at] == 7.0 and out["TERMINAL_RUN_LENGTH"][at] == np.float32(np.log(2))
    assert out["TERMINAL_GOOD_AGE"][at] == 8.0
    # at day 0 nothing is known
    assert out["TERMINAL_GOOD_AGE"][0] == LONG_AGO and out["TERMINAL_FRAUD_AGE"][0] == LONG_AGO
