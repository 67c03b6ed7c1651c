from datetime import date, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.ingest.step import FILE, ROW, ingest
from components.validate import by_day, stretches
from components.validate.contract import failures, row_schema, table_schema
from components.validate.parse import parse
from components.validate.step import validate
from seaway.config import Column, Config, Label, Source, Sweep, Workload, load
from seaway.errors import SeawayError

COLUMNS = {
    "id": Column(type="int", minimum=0),
    "at": Column(type="datetime"),
    "amount": Column(type="float", minimum=0, maximum=1000),
    "place": Column(type="str", allowed=("north", "south"), nullable=True),
    "label": Column(type="int", allowed=(0, 1)),
}
HEADER = "id,at,amount,place,label"


def workload(
    limit: float = 1.0, path: str | None = None, columns: dict = COLUMNS, row_id: str | None = "id"
) -> Workload:
    return Workload(
        name="toy",
        source="events",
        sources={"events": Source(path=path, id=row_id, time="at", columns=columns)},
        entities={},
        label=Label(column="label"),
        feature_repo="repo",
        features="toy:FEATURES",
        model="toy",
        quarantine_limit=limit,
        sweep=Sweep(space={}),
    )


def run(tmp_path: Path, table: pl.DataFrame, toy: Workload) -> tuple[pl.DataFrame, pl.DataFrame, dict]:
    """Validate one raw table: the good rows, the quarantine, the summary."""
    (tmp_path / "raw").mkdir(exist_ok=True)
    rows = pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias(ROW)
    table.with_columns(pl.lit("a.csv").alias(FILE), rows).write_parquet(tmp_path / "raw" / "events.parquet")
    return validated(tmp_path, toy, tmp_path / "raw", table.height <= 100)


def validated(tmp_path: Path, toy: Workload, raw: Path, also: bool) -> tuple[pl.DataFrame, pl.DataFrame, dict]:
    """Validate in memory, and with ``also`` in parts of few rows, which must come to the same."""
    summary = validate(toy, raw, tmp_path / "out", tmp_path / "quarantine.parquet")
    good = pl.read_parquet(tmp_path / "out" / "events.parquet")
    bad = pl.read_parquet(tmp_path / "quarantine.parquet")
    config = in_parts(toy, tmp_path / "home")
    for _ in range(2 * also):  # the second takes over what the first has made
        found = validate(toy, raw, tmp_path / "parts", tmp_path / "parts.parquet", config)
        assert found == summary
        files = list((tmp_path / "parts" / "events.parquet").iterdir())
        assert pl.read_parquet(tmp_path / "parts.parquet").equals(bad)
        assert pl.read_parquet(files[0].parent).equals(good) if good.height else not files
        assert all(file.stem == str(day) for file in files for day in pl.read_parquet(file)["at"].dt.date().unique())
    return good, bad, summary["events"]


def in_parts(toy: Workload, home: Path) -> Config:
    config = load(overrides={"home": str(home), "data": {"engine": "partitions"}})
    return config.model_copy(update={"workload": toy})


@pytest.fixture(autouse=True, scope="module")
def few_rows():
    """So few rows at a time that every table is of many stretches, passes and batches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stretches, "ROWS", 3)
        patch.setattr(by_day, "ROWS", 4)
        patch.setattr(by_day, "IDS", 5)
        yield


def run_csv(tmp_path: Path, *lines: str, header: str = HEADER, limit: float = 1.0):
    """From the lines of a CSV file through the real ingest step."""
    (tmp_path / "a.csv").write_text("\n".join((header, *lines)) + "\n")
    toy = workload(limit, path="a.csv")
    ingest(toy, tmp_path, "", tmp_path / "raw")
    return validated(tmp_path, toy, tmp_path / "raw", len(lines) <= 100)


GOOD = "7,2024-01-01 00:00:00,1.5,north,0"


@pytest.mark.parametrize(
    ("line", "field", "value", "reason"),
    [
        ("x7,2024-01-01,1,north,0", "id", "x7", "not a whole number"),
        ("3.7,2024-01-01,1,north,0", "id", "3.7", "not a whole number"),
        ("99999999999999999999,2024-01-01,1,north,0", "id", "99999999999999999999", "not a whole number"),
        ("-1,2024-01-01,1,north,0", "id", "-1", "below 0"),
        (",2024-01-01,1,north,0", "id", None, "empty"),
        ("7,2024-01-02,1,north,0", "id", "7", "duplicated id; the first row is kept"),
        ("8,2024-02-30 00:00:00,1,north,0", "at", "2024-02-30 00:00:00", "not a time"),
        ("8,01/02/2024,1,north,0", "at", "01/02/2024", "not a time"),
        ("8,1704067200,1,north,0", "at", "1704067200", "not a time"),
        ("8,,1,north,0", "at", None, "empty"),
        ("8,2024-01-01T00:00:00+02:00,1,north,0", "at", "2024-01-01T00:00:00+02:00", "a time with an offset"),
        ("8,2024-01-01,nan,north,0", "amount", "nan", "not a finite number"),
        ("8,2024-01-01,-inf,north,0", "amount", "-inf", "not a finite number"),
        ("8,2024-01-01,-0.01,north,0", "amount", "-0.01", "below 0"),
        ("8,2024-01-01,1000.01,north,0", "amount", "1000.01", "above 1000"),
        ("8,2024-01-01,12 EUR,north,0", "amount", "12 EUR", "not a number"),
        ("8,2024-01-01,,north,0", "amount", None, "empty"),
        ("8,2024-01-01,1,west,0", "place", "west", "not one of north, south"),
        ("8,2024-01-01,1,north,2", "label", "2", "not one of 0, 1"),
        ("8,2024-01-01,1,north,true", "label", "true", "not a whole number"),
        ("8,2024-01-01,12,50,north,0", "(end of line)", "0", "more fields than the header"),
        ("8,2024-01-01,1,north", "label", None, "empty"),
    ],
)
def test_a_bad_value_goes_to_quarantine_with_its_place_and_reason(tmp_path, line, field, value, reason):
    good, quarantine, summary = run_csv(tmp_path, GOOD, line)
    assert good["id"].to_list() == [7]
    first = quarantine.row(0, named=True)
    assert (first["source"], first["file"], first["row"], first["field"], first["value"]) == (
        "events",
        "a.csv",
        2,
        field,
        value,
    )
    assert first["reason"].startswith(reason)
    assert summary["rows_in"] == 2
    assert summary["rows_good"] == summary["quarantined"] == 1
    assert summary["reasons"][f"{field}: {first['reason']}"] == 1


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("1,2024-01-01,1,,0", (1, datetime(2024, 1, 1), 1.0, None, 0)),
        (" 1 , 2024-01-01 10:20 ,1e2,south,1.0", (1, datetime(2024, 1, 1, 10, 20), 100.0, "south", 1)),
        ("+1,2024-01-01T10:20:30.1234567,0,north,0", (1, datetime(2024, 1, 1, 10, 20, 30, 123456), 0.0, "north", 0)),
    ],
)
def test_what_is_plain_enough_is_read(tmp_path, line, expected):
    good, quarantine, _ = run_csv(tmp_path, line)
    assert good.rows() == [expected]
    assert quarantine.is_empty()
    assert good.schema == pl.Schema(
        {"id": pl.Int64, "at": pl.Datetime("us"), "amount": pl.Float64, "place": pl.String, "label": pl.Int64}
    )


def test_of_rows_with_the_same_id_the_first_good_one_is_kept(tmp_path):
    good, quarantine, _ = run_csv(
        tmp_path, "5,2024-01-01,-1,,0", "5,2024-01-03,1,,0", "5,2024-01-02,2,,0", "6,2024-01-01,3,,1"
    )
    assert good.select("id", "amount").rows() == [(6, 3.0), (5, 1.0)]
    assert quarantine.select("row", "reason").rows() == [(1, "below 0"), (3, "duplicated id; the first row is kept")]


def test_an_id_that_ends_a_stretch_and_begins_the_next_is_found(tmp_path):
    good, quarantine, _ = run_csv(tmp_path, *(f"{i},2024-01-0{n + 1},1,,0" for n, i in enumerate((1, 2, 3, 3, 4, 5))))
    assert good["id"].to_list() == [1, 2, 3, 4, 5]
    assert quarantine["row"].to_list() == [4]


def test_a_row_with_two_bad_values_is_one_row_and_two_findings(tmp_path):
    _, quarantine, summary = run_csv(tmp_path, GOOD, "8,2024-01-01,-1,,9")
    assert quarantine.select("row", "field").rows() == [(2, "amount"), (2, "label")]
    assert summary["quarantined"] == 1


def test_offsets_become_utc_and_the_rarer_form_is_refused(tmp_path):
    good, quarantine, _ = run_csv(
        tmp_path,
        "1,2024-01-01 12:00:00+02:00,1,,0",
        "2,2024-01-01T05:00:00-0500,1,,0",
        "3,2024-01-01T10:00:00.5Z,1,,0",
        "4,2024-01-01 10:00 +00,1,,0",
        "5,2024-01-01 10:00:00,1,,0",
    )
    assert good.select("id", "at").rows() == [
        (1, datetime(2024, 1, 1, 10)),
        (2, datetime(2024, 1, 1, 10)),
        (4, datetime(2024, 1, 1, 10)),
        (3, datetime(2024, 1, 1, 10, 0, 0, 500_000)),
    ]
    assert quarantine.select("row", "value").rows() == [(5, "2024-01-01 10:00:00")]
    assert quarantine["reason"][0].startswith("a time without an offset")


def test_times_have_bounds_too(tmp_path):
    at = Column.model_validate(
        {"type": "datetime", "minimum": date(2024, 1, 1), "maximum": "2024-12-31T23:00:00+00:00"}
    )
    lines = ["2023-12-31 23:59:59", "2024-01-01 00:00:00", "2024-12-31 23:00:00", "2218-05-01 00:00:00"]
    table = pl.DataFrame({"id": range(4), "at": lines, "amount": 1.0, "place": "north", "label": 0})
    good, quarantine, _ = run(tmp_path, table, workload(columns=COLUMNS | {"at": at}))
    assert good["id"].to_list() == [1, 2]
    assert quarantine["reason"].to_list() == ["below 2024-01-01 00:00:00", "above 2024-12-31 23:00:00"]


def test_typed_times_with_a_zone_become_utc(tmp_path):
    at = (
        pl.Series("at", [datetime(2024, 7, 1, 12)]).dt.replace_time_zone("Europe/Berlin").cast(pl.Datetime("ns", "UTC"))
    )
    table = pl.DataFrame({"id": [1], "at": at, "amount": [1.0], "place": [None], "label": [0]})
    good, _, _ = run(tmp_path, table, workload())
    assert good["at"].to_list() == [datetime(2024, 7, 1, 10)]
    assert good["at"].dtype == pl.Datetime("us")


def test_typed_columns_of_the_wrong_type_are_refused_row_by_row(tmp_path):
    table = pl.DataFrame(
        {
            "id": [1.0, 2.5, float("nan"), 4.0],
            "at": [datetime(2024, 1, 1)] * 4,
            "amount": [1, 2, 3, 4],
            "place": ["north"] * 4,
            "label": [True, False, True, None],
        }
    )
    good, quarantine, _ = run(tmp_path, table, workload())
    assert good.select("id", "amount", "label").rows() == [(1, 1.0, 1)]
    assert quarantine.select("row", "field", "reason").rows() == [
        (2, "id", "not a whole number"),
        (3, "id", "not a whole number"),
        (4, "label", "empty"),
    ]
    numbers = table.with_columns(at=pl.lit(1_704_067_200), place=pl.lit(None, pl.String), label=0, id=pl.int_range(4))
    good, quarantine, _ = run(tmp_path, numbers, workload())
    assert good.is_empty()
    assert quarantine["field"].unique().to_list() == ["at"]


def test_nan_is_no_value_where_none_is_needed():
    for kind, values in (("float", [1.0, float("nan")]), ("int", [1.0, float("nan")]), ("float", ["1", "NaN"])):
        typed, reasons = parse(pl.Series("x", values), Column(type=kind, nullable=True))
        assert typed.to_list() == [1, None]
        assert reasons == []
    assert parse(pl.Series("x", [float("inf")]), Column(type="float", nullable=True))[1][0][1] == "not a finite number"


def test_missing_columns_name_what_was_found(tmp_path):
    with pytest.raises(SeawayError, match="missing column 'amount', 'label'; found: id, at, Amount, place"):
        run_csv(tmp_path, "1,2024-01-01,1,north", header="id,at,Amount,place")
    assert not (tmp_path / "out").exists()


def test_an_empty_source_is_an_error(tmp_path):
    with pytest.raises(SeawayError, match="no rows"):
        run(tmp_path, pl.DataFrame(schema=dict.fromkeys(COLUMNS, pl.String)), workload())
    with pytest.raises(SeawayError, match="run the ingest step first"):
        validate(workload(), tmp_path / "nothing", tmp_path / "out", tmp_path / "quarantine.parquet")


def test_above_the_limit_the_run_stops_and_says_why(tmp_path):
    lines = [f"{i},2024-01-01,{-1 if i < 2 else 1},north,{3 if i == 5 else 0}" for i in range(100)]
    with pytest.raises(SeawayError) as raised:
        run_csv(tmp_path, *lines, limit=0.02)
    text = str(raised.value)
    assert "3 of 100 rows (3.0%)" in text
    assert "the limit is 2.0%" in text
    assert "2 x amount: below 0 (first: a.csv, row 1: '-1')" in text
    assert "1 x label: not one of 0, 1 (first: a.csv, row 6: '3')" in text
    assert str(tmp_path / "quarantine.parquet") in text
    assert "quarantine_limit" in text
    assert pl.read_parquet(tmp_path / "quarantine.parquet").height == 3
    assert not (tmp_path / "out").exists()
    _, _, summary = run_csv(tmp_path, *lines, limit=0.03)  # at the limit the run goes on
    assert summary["rows_good"] == 97


def test_rows_come_out_by_time_and_id_whatever_their_order_was(tmp_path):
    lines = [f"{i},2024-01-0{1 + i % 3} 00:00:00,{i},,0" for i in range(9)]
    first, _, summary = run_csv(tmp_path, *lines)
    again, _, _ = run_csv(tmp_path, *reversed(lines))
    assert first.equals(again)
    assert first["id"].to_list() == [0, 3, 6, 1, 4, 7, 2, 5, 8]
    assert (summary["first_time"], summary["last_time"]) == ("2024-01-01T00:00:00", "2024-01-03T00:00:00")


def test_two_runs_write_the_same_bytes(tmp_path):
    lines = [GOOD, *(f"{i % 50},2024-01-01,{-(i % 7)},x,{i % 3}" for i in range(500))]
    run_csv(tmp_path, *lines)
    before = [(tmp_path / p).read_bytes() for p in ("out/events.parquet", "quarantine.parquet")]
    run_csv(tmp_path, *lines)
    assert before == [(tmp_path / p).read_bytes() for p in ("out/events.parquet", "quarantine.parquet")]


def test_without_an_id_rows_of_the_same_time_keep_their_order(tmp_path):
    columns = {k: v for k, v in COLUMNS.items() if k != "id"}
    at = ["2024-01-02", "2024-01-01", "2024-01-01"]
    table = pl.DataFrame({"at": at, "amount": [1, 3, 2], "place": ["north"] * 3, "label": [0] * 3})
    good, _, _ = run(tmp_path, table, workload(columns=columns, row_id=None))
    assert good["amount"].to_list() == [3.0, 2.0, 1.0]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (Column(type="str", minimum=1), "'place' is str, so it can have no minimum or maximum 1"),
        (Column(type="datetime", maximum=1), "'place' is datetime, so it can have no minimum"),
        (Column(type="int", allowed=("a",)), "'place' is int, so 'a' cannot be among its allowed values"),
    ],
)
def test_a_contract_that_makes_no_sense_is_named(column, message):
    with pytest.raises(SeawayError, match=message):
        row_schema(Source(time="at", columns={"place": column}))


def test_the_time_and_the_id_must_be_declared(tmp_path):
    columns = {k: v for k, v in COLUMNS.items() if k != "at"}
    with pytest.raises(SeawayError, match="'at' is its time or id but is not among its columns"):
        run_csv_table = pl.DataFrame({name: ["1"] for name in COLUMNS})
        run(tmp_path, run_csv_table, workload(columns=columns))


values = st.one_of(
    st.none(),
    st.text(max_size=8),
    st.sampled_from(["1", "0", "-1", "2.5", "nan", "2024-01-01", "2024-01-01T00:00:00Z", "north", ""]),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(*[values] * 5), min_size=1, max_size=12))
def test_every_row_is_either_good_by_contract_or_in_quarantine(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("any")
    table = pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.String), orient="row")
    good, quarantine, summary = run(folder, table, workload())
    assert good.height + quarantine["row"].n_unique() == table.height == summary["rows_in"]
    source = workload().sources["events"]
    assert failures(row_schema(source), good).is_empty()
    assert failures(table_schema(source), good).is_empty()
