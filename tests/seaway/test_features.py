"""The two evaluators agree bit for bit, and both do what the definitions say."""

from datetime import UTC, datetime
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.definitions import FEATURES
from seaway.features import (
    DAY,
    MICRO,
    FeatureSpec,
    Request,
    Window,
    event_times,
    micros,
    request_values,
    to_quanta,
    window_now,
    window_table,
)


def window(**changes):
    given = {"view": "v", "entity": "e", "key": "k", "value": "x", "count": "n_{n}", "mean": "m_{n}"}
    return Window(**(given | {"windows": ("1h", "6h"), "quantum": 0.01} | changes))


WINDOWS = [
    window(include_current=True),
    window(),
    window(delay="2h"),
    window(delay="2h", include_current=True),  # the delay leaves the current event out
    window(windows=("30s", "1h", "3h"), quantum=1.0, delay="1h"),
]
# half an hour apart at the least, so that window limits fall exactly on events; and any second and fraction
MOMENTS = st.one_of(
    st.integers(0, 30).map(lambda n: n * 1800 * MICRO),
    st.integers(0, 15 * 3600 * MICRO),
    st.integers(0, 30).map(lambda n: n * 1800 * MICRO + 999_999),
)
EVENTS = st.lists(st.tuples(st.integers(0, 2), MOMENTS, st.integers(-500, 100_000)), min_size=1, max_size=40).map(
    lambda rows: sorted(rows, key=lambda row: row[1])
)


def columns(rows):
    keys, times, cents = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    return keys, times, cents / 100


@pytest.mark.parametrize("definition", WINDOWS)
@given(rows=EVENTS)
@settings(max_examples=60, deadline=None)
def test_table_and_request_agree_bit_for_bit(definition, rows):
    keys, times, values = columns(rows)
    table = window_table(definition, keys, times, values)
    quanta = to_quanta(values, definition.quantum)
    for i in range(len(keys)):
        mine = np.flatnonzero(keys[:i] == keys[i])
        mine = np.random.default_rng(i).permutation(mine)  # the order of the history must not matter
        now = window_now(definition, times[mine], quanta[mine], int(times[i]), float(values[i]))
        for name, column in now.items():
            assert column.dtype == np.float32
            assert column.tobytes() == table[name][i : i + 1].tobytes(), (name, i)


@pytest.mark.parametrize("definition", WINDOWS)
@given(rows=EVENTS)
@settings(max_examples=30, deadline=None)
def test_table_is_what_the_definition_says(definition, rows):
    """Against a reference in exact fractions that goes through the events one by one."""
    keys, times, values = columns(rows)
    table = window_table(definition, keys, times, values)
    delay, quantum = micros(definition.delay) // MICRO, Fraction(str(definition.quantum))
    cents = to_quanta(values, definition.quantum)
    for i in range(len(keys)):
        second = int(times[i]) // MICRO
        for w, length in enumerate(definition.windows):
            limit = second - delay
            inside = [
                int(cents[j])
                for j in range(len(keys))
                if keys[j] == keys[i]
                and limit - micros(length) // MICRO < int(times[j]) // MICRO <= limit
                and (delay > 0 or j < i or (j == i and definition.include_current))
            ]
            mean = float(sum(inside) * quantum / len(inside)) if inside else 0.0
            count_name, mean_name = definition.names[2 * w : 2 * w + 2]
            assert table[count_name][i] == len(inside)
            assert table[mean_name][i] == pytest.approx(mean, rel=1e-6, abs=1e-9)


def test_order_of_addition_does_not_matter():
    """0.1 + 0.2 + 0.3 depends on the order in floating point; sums of quanta do not."""
    definition = window(include_current=True)
    values = np.array([0.1, 0.2, 0.3] * 200)
    times = np.arange(600) * MICRO
    one = window_table(definition, np.zeros(600, dtype=np.int64), times, values)
    shuffled = np.random.default_rng(0).permutation(599)
    other = window_now(definition, times[shuffled], to_quanta(values, 0.01)[shuffled], int(times[-1]), values[-1])
    assert one["m_6"][-1] == other["m_6"][0] == np.float32(0.2)


def test_empty_table():
    nothing = np.empty(0, dtype=np.int64)
    table = window_table(window(), nothing, nothing, nothing.astype(float))
    assert {name: column.shape for name, column in table.items()} == dict.fromkeys(window().names, (0,))


@given(st.lists(st.integers(0, 5 * MICRO), min_size=1, max_size=50).map(sorted))
def test_event_times_are_unique_in_order_and_in_their_second(times):
    times = np.array(times, dtype=np.int64)
    unique = event_times(times)
    assert (np.diff(unique) > 0).all()
    assert (unique // MICRO == times // MICRO).all()


@given(st.datetimes(datetime(1970, 1, 1), datetime(2099, 12, 31)))
def test_request_features_follow_the_calendar(moment):
    spec = FeatureSpec("v", "t", (Request("w", "t", "weekend"), Request("n", "t", "hour_at_most", 6)))
    times = np.array([np.datetime64(moment, "us").astype(np.int64)])
    values = request_values(spec, {"t": times})
    assert values["w"][0] == (moment.replace(tzinfo=UTC).weekday() >= 5)
    assert values["n"][0] == (moment.hour <= 6)


def test_the_published_fifteen():
    names = FEATURES.names
    assert len(names) == len(set(names)) == 15
    assert names[:3] == ("TX_AMOUNT", "TX_DURING_WEEKEND", "TX_DURING_NIGHT")
    assert names[3:5] == ("CUSTOMER_ID_NB_TX_1DAY_WINDOW", "CUSTOMER_ID_AVG_AMOUNT_1DAY_WINDOW")
    assert names[-2:] == ("TERMINAL_ID_NB_TX_30DAY_WINDOW", "TERMINAL_ID_RISK_30DAY_WINDOW")
    assert FEATURES.windows[1].horizon == 37 * DAY
    assert FeatureSpec.from_record(FEATURES.as_record()).hash == FEATURES.hash
    assert set(FEATURES.reasons()) == set(names)
