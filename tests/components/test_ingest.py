import shutil
from pathlib import Path

import polars as pl
import pytest

from components.ingest.step import ingest
from components.steps import source_files
from seaway.config import Column, Label, Source, Sweep, Workload, load
from seaway.errors import SeawayError
from seaway.storage import Storage

COLUMNS = {"id": Column(type="int"), "at": Column(type="datetime"), "amount": Column(type="float")}
ROWS = pl.DataFrame({"id": [1, 2, 3], "at": ["2024-01-01 00:00:00"] * 3, "amount": [1.5, 2.0, -1.0]})
GENERATOR = """
import polars as pl

def draw(scale, out):
    pl.DataFrame({"id": range(scale["rows"])}).write_parquet(out)

def forget(scale, out):
    pass
"""


def workload(path: Path | str | None = None, generator: str | None = None) -> Workload:
    source = Source(path=path and str(path), generator=generator, id="id", time="at", columns=COLUMNS)
    return Workload(
        name="toy",
        source="events",
        sources={"events": source},
        scales={"tiny": {"rows": 5}},
        entities={},
        label=Label(column="label"),
        feature_repo="repo",
        features="toy:FEATURES",
        model="toy",
        sweep=Sweep(space={}),
    )


def run(tmp_path: Path, path: Path | str) -> tuple[dict, pl.DataFrame]:
    """The summary and the raw rows; in parts they are the same."""
    summary = ingest(workload(path), tmp_path, "tiny", tmp_path / "out")
    table = pl.read_parquet(tmp_path / "out" / "events.parquet")
    for _ in range(2):
        assert ingest(workload(path), tmp_path, "tiny", tmp_path / "parts", None, in_parts(tmp_path)) == summary
        assert pl.read_parquet(tmp_path / "parts" / "events.parquet").equals(table)
        assert pl.read_parquet_schema(tmp_path / "parts" / "events.parquet") == table.schema
    return summary, table


def in_parts(tmp_path: Path):
    return load(overrides={"home": str(tmp_path / "home"), "data": {"engine": "partitions"}})


def test_a_csv_file_stays_text_and_every_row_knows_its_place(tmp_path):
    (tmp_path / "a.csv").write_text("id,at,amount\n1,yesterday,3.7\n2,,abc\n")
    summary, table = run(tmp_path, tmp_path / "a.csv")
    assert summary == {"events": {"rows": 2, "files": ["a.csv"]}}
    assert table.select("id", "at", "amount", "__file", "__row").rows() == [
        ("1", "yesterday", "3.7", "a.csv", 1),
        ("2", None, "abc", "a.csv", 2),
    ]


def test_a_parquet_file_keeps_its_types_and_its_other_columns(tmp_path):
    ROWS.with_columns(note=pl.lit("x")).write_parquet(tmp_path / "a.parquet")
    _, table = run(tmp_path, tmp_path / "a.parquet")
    assert table.drop("__file", "__row").equals(ROWS.with_columns(note=pl.lit("x")))


def test_a_folder_is_read_in_order_of_names_and_rows_count_per_file(tmp_path):
    (tmp_path / "in" / "2024").mkdir(parents=True)
    ROWS.slice(2).write_csv(tmp_path / "in" / "b.csv")
    ROWS.head(2).write_csv(tmp_path / "in" / "2024" / "a.CSV")
    (tmp_path / "in" / "_SUCCESS").write_text("")
    (tmp_path / "in" / ".hidden.csv").write_text("")
    summary, table = run(tmp_path, "in")  # relative to the workload's root
    assert summary["events"]["files"] == ["2024/a.CSV", "b.csv"]
    assert table.select("id", "__file", "__row").rows() == [
        ("1", "2024/a.CSV", 1),
        ("2", "2024/a.CSV", 2),
        ("3", "b.csv", 1),
    ]


def test_a_glob_picks_its_files(tmp_path):
    for day in ("01", "02", "03"):
        (tmp_path / day).mkdir()
        ROWS.write_parquet(tmp_path / day / "part.parquet")
    summary, table = run(tmp_path, tmp_path / "0[12]" / "*.parquet")
    assert summary["events"] == {"rows": 6, "files": ["01/part.parquet", "02/part.parquet"]}
    assert table["__file"].unique().sort().to_list() == ["01/part.parquet", "02/part.parquet"]


def test_files_that_disagree_on_a_type_become_text_for_validation_to_judge(tmp_path):
    at = pl.Series("at", ["2024-01-01 10:00:00"]).str.to_datetime()
    pl.DataFrame({"id": [1], "at": at, "amount": [1.0]}).write_parquet(tmp_path / "a.parquet")
    zoned = at.dt.replace_time_zone("Europe/Berlin")
    pl.DataFrame({"id": ["x"], "at": zoned, "amount": [2]}).write_parquet(tmp_path / "b.parquet")
    _, table = run(tmp_path, tmp_path / "*.parquet")
    assert table["id"].to_list() == ["1", "x"]
    assert table["at"].to_list() == ["2024-01-01 10:00:00.000000", "2024-01-01 10:00:00.000000+01:00"]
    assert table["amount"].to_list() == [1.0, 2.0]


def test_csv_lines_of_the_wrong_length_stay_in_their_own_row(tmp_path):
    (tmp_path / "a.csv").write_text("id,at,amount\n1,t,2,50,x\n2,t\n3,t,1\n")
    _, table = run(tmp_path, tmp_path / "a.csv")
    assert table.select("id", "amount", "__surplus").rows() == [("1", "2", "50"), ("2", None, None), ("3", "1", None)]


def test_without_a_path_the_generator_draws_the_chosen_scale(tmp_path):
    (tmp_path / "toy_source.py").write_text(GENERATOR)
    summary = ingest(workload(generator="toy_source:draw"), tmp_path, "tiny", tmp_path / "out")
    assert summary == {"events": {"rows": 5, "files": ["toy_source:draw"]}}
    table = pl.read_parquet(tmp_path / "out" / "events.parquet")
    assert table["__row"].to_list() == [1, 2, 3, 4, 5]
    assert table["__file"].unique().to_list() == ["toy_source:draw"]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["events.parquet"]
    with pytest.raises(SeawayError, match="'toy_source:forget' wrote no file"):
        ingest(workload(generator="toy_source:forget"), tmp_path, "tiny", tmp_path / "out")


def test_in_parts_only_files_that_changed_are_read_again(tmp_path):
    (tmp_path / "in").mkdir()
    for name, ids in (("a", [1, 2]), ("b", []), ("c", [3])):
        ROWS.head(len(ids)).with_columns(pl.Series("id", ids, dtype=pl.Int64)).write_parquet(
            tmp_path / f"in/{name}.parquet"
        )

    def parts():
        toy, out = workload(tmp_path / "in"), tmp_path / "out"
        shutil.rmtree(out, ignore_errors=True)
        ingest(toy, tmp_path, "tiny", out, None, in_parts(tmp_path))
        return [(p.name, p.stat().st_ino, pl.read_parquet(p)["id"].to_list()) for p in sorted(out.glob("*/*"))]

    first = parts()
    assert [ids for _, _, ids in first] == [[1, 2], [3]]
    assert parts() == first
    ROWS.write_parquet(tmp_path / "in/d.parquet")
    assert parts()[:2] == first
    (tmp_path / "in/b.parquet").unlink()
    again = parts()
    assert [row[1:] for row in again[:2]] == [row[1:] for row in first], "other numbers, the same files"
    ROWS.head(2).write_parquet(tmp_path / "in/c.parquet")
    assert [row[1] for row in parts()[:1]] == [first[0][1]]
    assert [ids for _, _, ids in parts()] == [[1, 2], [1, 2], [1, 2, 3]]
    # another type in one file is another type in all
    ROWS.with_columns(pl.col("id").cast(pl.String)).write_parquet(tmp_path / "in/d.parquet")
    assert [ids for _, _, ids in parts()] == [["1", "2"], ["1", "2"], ["1", "2", "3"]]


def test_an_unknown_scale_names_the_known_ones(tmp_path):
    with pytest.raises(SeawayError, match="no scale 'huge'; it knows: tiny"):
        ingest(workload(generator="toy_source:draw"), tmp_path, "huge", tmp_path / "out")
    with pytest.raises(SeawayError, match="does not say which scale to generate; it knows: tiny"):
        ingest(workload(generator="toy_source:draw"), tmp_path, "", tmp_path / "out")
    with pytest.raises(SeawayError, match="neither a path nor a generator"):
        ingest(workload(), tmp_path, "tiny", tmp_path / "out")


def _mixed(folder: Path) -> None:
    ROWS.write_csv(folder / "a.csv")
    ROWS.write_parquet(folder / "a.parquet")


def _columns_differ(folder: Path) -> None:
    ROWS.write_csv(folder / "a.csv")
    ROWS.drop("amount").write_csv(folder / "b.csv")


@pytest.mark.parametrize(
    ("prepare", "path", "message"),
    [
        (lambda d: None, "", "no Parquet or CSV file at"),
        (lambda d: None, "*.csv", "no Parquet or CSV file at"),
        (lambda d: None, "gone.csv", "no Parquet or CSV file at .*gone.csv"),
        (lambda d: (d / "a.xlsx").write_text("x"), "a.xlsx", "ends in '.xlsx'; what can be read is .parquet and .csv"),
        (_mixed, "", "1 CSV and 1 Parquet files"),
        (lambda d: (d / "a.csv").write_text(""), "", r"a.csv is empty \(0 bytes\)"),
        (lambda d: ROWS.clear().write_csv(d / "a.csv"), "", "a.csv is empty: columns but no rows"),
        (lambda d: ROWS.clear().write_parquet(d / "a.parquet"), "", "a.parquet is empty: columns but no rows"),
        (lambda d: (d / "a.parquet").write_text("not parquet"), "", "a.parquet cannot be read"),
        (lambda d: (d / "a.csv").write_bytes(b"id,at\n1,\xff\xfe\xff\n"), "", "a.csv cannot be read"),
        (lambda d: (d / "a.csv").write_bytes(b"\xff\xfe\n"), "", "a.csv cannot be read"),
        (lambda d: (d / "a.csv").write_text("id;at;amount\n1;2;3\n"), "", "separated by ';'; write it with commas"),
        (lambda d: (d / "a.csv").write_text("id,id\n1,2\n"), "", "must name the columns, each once"),
        (_columns_differ, "", "file b.csv has no column 'amount', other files have it. Its columns: id, at"),
        (lambda d: ROWS.with_columns(__row=1).write_parquet(d / "a.parquet"), "", "column '__row'; rename it"),
    ],
)
def test_what_cannot_be_read_is_said_plainly(tmp_path, prepare, path, message):
    (tmp_path / "in").mkdir()
    prepare(tmp_path / "in")
    with pytest.raises(SeawayError, match=message):
        run(tmp_path, tmp_path / "in" / path)


def test_one_damaged_file_among_many_is_named(tmp_path):
    (tmp_path / "in").mkdir()
    ROWS.write_parquet(tmp_path / "in" / "a.parquet")
    whole = (tmp_path / "in" / "a.parquet").read_bytes()
    (tmp_path / "in" / "b.parquet").write_bytes(whole[:4] + bytes(40) + whole[44:])  # data, not the footer
    with pytest.raises(SeawayError, match=r"b.parquet cannot be read"):
        run(tmp_path, "in")
    assert not (tmp_path / "out" / "events.parquet").exists()


# object storage


@pytest.fixture
def bucket(tmp_path):
    store = Storage((tmp_path / "bucket").as_uri())
    for day in ("2024-01-01", "2024-01-02"):
        ROWS.write_parquet(tmp_path / "rows.parquet")
        store.upload(tmp_path / "rows.parquet", store.join("raw", day, "part one.parquet"))
    store.write(store.join("raw", "_SUCCESS"), b"")
    store.write(store.join("raw", "notes.txt"), b"")
    store.upload(tmp_path / "rows.parquet", store.join("whole.parquet", "part-0.parquet"))
    return store


@pytest.mark.parametrize(
    ("path", "files"),
    [
        ("raw", ["2024-01-01/part one.parquet", "2024-01-02/part one.parquet"]),
        ("raw/**/*.parquet", ["2024-01-01/part one.parquet", "2024-01-02/part one.parquet"]),
        ("raw/*-02/*.parquet", ["2024-01-02/part one.parquet"]),
        ("raw/2024-01-01/part%20one.parquet", ["part one.parquet"]),
        ("whole.parquet", ["part-0.parquet"]),
        ("whole.parquet/", ["part-0.parquet"]),
    ],
)
def test_objects_in_storage_are_read_as_files_are(tmp_path, bucket, path, files):
    summary, table = run(tmp_path, bucket.join(path))
    assert summary == {"events": {"rows": 3 * len(files), "files": files}}
    assert table["__file"].unique().sort().to_list() == files and table["__row"].to_list() == [1, 2, 3] * len(files)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["events.parquet"]  # nothing is left behind


def test_no_objects_and_broken_ones_are_told_by_their_uri(tmp_path, bucket):
    with pytest.raises(SeawayError, match=r"no Parquet or CSV file at file://.*/raw/\*\.csv"):
        run(tmp_path, bucket.join("raw/*.csv"))
    bucket.write(bucket.join("bad", "x.parquet"), b"not Parquet")
    with pytest.raises(SeawayError, match=r"bucket/bad/x\.parquet cannot be read"):
        run(tmp_path, bucket.join("bad"))


def test_a_changed_object_is_another_input(tmp_path, bucket):
    config = load(overrides={"home": str(tmp_path)})
    config = config.model_copy(update={"workload": workload(bucket.join("raw"))})
    before = source_files(config, {})
    assert len(before) == 2 and source_files(config, {}) == before
    ROWS.head(1).write_parquet(tmp_path / "rows.parquet")
    bucket.upload(tmp_path / "rows.parquet", bucket.join("raw/2024-01-01/part%20one.parquet"))
    assert source_files(config, {}) != before
