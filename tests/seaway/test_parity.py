import numpy as np
import pytest

from seaway.parity import agrees, compare

NAMES = ("a", "b", "c")


@pytest.fixture
def rows():
    return np.random.default_rng(0).random((50, 3)).astype(np.float32)


def test_equal_rows_agree(rows):
    scores = rows[:, 0].astype(np.float64)
    report = compare(NAMES, rows, rows.copy(), scores, scores + 5e-7)
    assert (report["checked"], report["feature_differences"], report["value_differences"]) == (50, 0, 0)
    assert report["max_score_difference"] == pytest.approx(5e-7)
    assert agrees(report)
    assert not agrees(report, score_tolerance=1e-7)


def test_one_changed_bit_is_found(rows):
    served = rows.copy()
    served[7, 1] = np.nextafter(served[7, 1], np.float32(2))
    report = compare(NAMES, served, rows, ids=np.arange(100, 150))
    assert (report["feature_differences"], report["by_feature"]) == (1, {"b": 1})
    assert report["examples"][0]["row"] == 107
    assert report["examples"][0]["feature"] == "b"
    assert not agrees(report)


@pytest.mark.parametrize(("left", "right"), [(0.0, -0.0), (np.nan, 0.0)])
def test_sign_of_zero_and_nan_count(rows, left, right):
    served, table = rows.copy(), rows.copy()
    served[0, 0], table[0, 0] = left, right
    assert compare(NAMES, served, table)["feature_differences"] == 1


def test_nan_on_both_sides_is_no_difference(rows):
    rows[3, 2] = np.nan
    assert compare(NAMES, rows, rows.copy())["feature_differences"] == 0


def test_score_that_is_not_a_number_is_a_difference(rows):
    scores = np.zeros(50)
    bad = scores.copy()
    bad[4] = np.nan
    report = compare(NAMES, rows, rows, bad, scores)
    assert report["max_score_difference"] == float("inf")
    assert not agrees(report)


def test_nothing_checked_is_no_agreement():
    empty = np.empty((0, 3), dtype=np.float32)
    assert not agrees(compare(NAMES, empty, empty))


@pytest.mark.parametrize(
    "call",
    [
        lambda r: compare(NAMES, r, r[:-1]),
        lambda r: compare(NAMES, r.astype(np.float64), r),
        lambda r: compare(NAMES[:2], r, r),
        lambda r: compare(NAMES, r, r, np.zeros(50), None),
        lambda r: compare(NAMES, r, r, np.zeros(50), np.zeros(49)),
        lambda r: compare(NAMES, r, r, ids=[1]),
    ],
)
def test_comparisons_that_leave_rows_out_are_refused(rows, call):
    with pytest.raises(ValueError):
        call(rows)
