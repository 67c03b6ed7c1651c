"""Window features day by day are those of the whole table, bit for bit."""

import dataclasses

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from seaway.day_windows import Events, reach, window_days
from seaway.features import DAY, MICRO, Window, window_table

HOUR = 3600 * MICRO
WINDOW = Window(view="v", entity="e", key="k", value="x", count="n{n}", mean="m{n}", quantum=0.01)


def by_day(window, keys, times, values, first=None, last=None):
    """{day: features} of the days from ``first`` to ``last``; and which days were read."""
    days, asked = times // DAY, set()

    def load(some, timed):
        assert len(some) == 1 or not timed
        asked.update(some)
        rows = np.isin(days, some)
        return Events(keys[rows], times[rows] if timed else None, values[rows]) if rows.any() else None

    first, last = (days.min() if first is None else first), (days.max() if last is None else last)
    return dict(window_days(window, int(first), int(last), load)), asked


def whole(window, keys, times, values):
    table, days = window_table(window, keys, times, values), times // DAY
    return {int(day): {n: c[days == day] for n, c in table.items()} for day in np.unique(days)}


def same(found, wanted):
    assert found.keys() == wanted.keys()
    for day, table in wanted.items():
        assert list(found[day]) == list(table)
        for name, column in table.items():
            assert found[day][name].dtype == np.float32
            assert np.array_equal(found[day][name], column), (day, name)


EVENTS = st.lists(
    st.tuples(
        st.integers(-2, 2), st.integers(0, 9 * 24), st.sampled_from([0, 0, 1, 999_999, MICRO]), st.integers(0, 9)
    ),
    min_size=1,
    max_size=60,
)


@given(
    EVENTS,
    st.sampled_from(["0d", "1d", "30h", "2d", "1s"]),
    st.sampled_from([("1d", "3d"), ("6h", "24h", "60h"), ("1s", "4d")]),
    st.booleans(),
    st.integers(-3, 20_000),
    st.sampled_from([1, 10**12]),
)
@settings(max_examples=150, deadline=None)
def test_every_day_is_as_in_the_whole_table(events, delay, lengths, current, start, apart):
    # on whole hours, so that windows end exactly on events and on midnights; before 1970 too
    rows = sorted(((start * DAY + h * HOUR + us, i), k, v) for i, (k, h, us, v) in enumerate(events))
    times = np.array([t for (t, _), _, _ in rows], dtype=np.int64)
    keys = np.array([k for _, k, _ in rows], dtype=np.int64) * apart  # ranks by table, and by search
    values = np.array([v / 100 for _, _, v in rows])
    names = {"count": "n{n}_", "mean": "m{n}_"} if len({n[:-1] for n in lengths}) == len(lengths) else {}
    window = dataclasses.replace(WINDOW, delay=delay, windows=lengths, include_current=current, **names)
    wanted = whole(window, keys, times, values)
    same(by_day(window, keys, times, values)[0], wanted)
    for day in wanted:
        found, asked = by_day(window, keys, times, values, first=day, last=day)
        same(found, {day: wanted[day]})
        assert min(asked) >= day - reach(window)


def test_values_that_floats_cannot_add_exactly():
    draw = np.random.default_rng(0)
    times = np.sort(draw.integers(0, 12 * 86_400, 4000)) * MICRO
    keys, values = draw.integers(0, 9, 4000), np.round(draw.gamma(2, 3000, 4000), 2)
    for delay in ("0d", "3d"):
        window = dataclasses.replace(WINDOW, delay=delay, windows=("1d", "7d"))
        same(by_day(window, keys, times, values)[0], whole(window, keys, times, values))


def test_sums_beyond_whole_floats():
    """On a day in which no window of the last day begins or ends: floats would lose both ones."""
    times = np.array([0, 1, 2, 3, 30, 31]) * DAY // 10
    values = np.array([2.0**53, 1, 1, -(2.0**53), 1, 1])
    window, keys = dataclasses.replace(WINDOW, quantum=1.0, windows=("1d", "4d")), np.zeros(6, np.int64)
    found, _ = by_day(window, keys, times, values, first=3, last=3)
    assert found[3]["m4"].tolist() == [np.float32(2 / 4), np.float32(3 / 5)]
    same(found, {3: whole(window, keys, times, values)[3]})


def test_days_between_the_edges_are_read_together_and_those_after_the_last_not_at_all():
    draw = np.random.default_rng(0)
    times = np.sort(draw.integers(0, 60 * 86_400, 6000)) * MICRO
    keys, values = draw.integers(0, 9, 6000), np.ones(6000)
    window = dataclasses.replace(WINDOW, windows=("1d", "30d"), delay="7d")
    days, asked = times // DAY, []

    def load(some, timed):
        asked.append((some.start, some.stop, timed))
        rows = np.isin(days, some)
        return Events(keys[rows], times[rows] if timed else None, values[rows])

    found = dict(window_days(window, 50, 50, load))
    same(found, {50: whole(window, keys, times, values)[50]})
    assert asked == [(50, 51, False), (13, 14, True), (14, 42, False), (42, 43, True), (43, 44, True), (50, 51, True)]


def test_nothing_to_compute():
    empty = np.empty(0, np.int64)
    assert by_day(WINDOW, empty, empty, empty, first=3, last=5)[0] == {}
