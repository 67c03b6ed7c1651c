"""Tables in parts: the rows of memory to the bit; by partitions, and when only some days are computed."""

import dataclasses
import shutil
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from components.dataset import by_day
from components.dataset.step import dataset
from components.features.step import features
from components.ingest import table as raw_table
from components.ingest.step import ingest
from components.ray import spread
from components.validate.step import validate
from seaway import parts, shelf
from seaway.config import Config, load
from seaway.errors import SeawayError
from tests.feature_repo import world
from tests.feature_repo.toy.definitions import SPEC

STEPS = ("ingest", "validate", "features", "dataset")


def config(home: Path, engine: str = "partitions", raw: Path | None = None, **data) -> Config:
    sources = {name: {"path": str(raw / name)} for name in ("visits", "ratings")} if raw else {}
    overrides = {"home": str(home), "data": {"engine": engine, **data}, "workload": {"sources": sources}}
    return load(workload=world.WORKLOAD, overrides=overrides)


def built(cfg: Config, out: Path, spec=SPEC) -> dict[str, dict]:
    """All steps from the raw files of the configuration: their summaries by name."""
    shutil.rmtree(out, ignore_errors=True)
    workload = cfg.workload
    return {
        "ingest": ingest(workload, cfg.root, "", out / "ingest", None, cfg),
        "validate": validate(workload, out / "ingest", out / "validate", out / "quarantine.parquet", cfg),
        "features": features(workload, spec, out / "validate", out / "features", cfg),
        "dataset": dataset(cfg, spec, out / "features", out / "dataset"),
    }


def same(out: Path, wanted: Path) -> None:
    """Every table of one build equals that of the other, names, types and bits."""
    tables = {p.relative_to(wanted) for p in wanted.rglob("*.parquet") if not parts_of(p)}
    assert tables == {p.relative_to(out) for p in out.rglob("*.parquet") if not parts_of(p)}
    assert len(tables) == 14
    for table in tables:
        mine, theirs = pl.read_parquet(out / table), pl.read_parquet(wanted / table)
        assert mine.schema == theirs.schema, table
        assert mine.equals(theirs), table


def told_alike(found: dict[str, dict], memory: dict[str, dict]) -> None:
    """What is told is the same but for seconds and days."""
    for step in STEPS:
        told = {k: v for k, v in found[step].items() if "days" not in k and "seconds" not in k}
        assert told == {k: v for k, v in memory[step].items() if "seconds" not in k}, step


def parts_of(file: Path) -> bool:
    return file.parent.suffix == ".parquet"


def write_days(raw: Path, visits: pl.DataFrame, ratings: pl.DataFrame) -> None:
    """Raw files: one a day for the visits, two for the ratings."""
    for (day,), rows in visits.group_by(pl.col("at").dt.date(), maintain_order=True):
        (raw / "visits").mkdir(parents=True, exist_ok=True)
        rows.write_csv(raw / "visits" / f"{day}.csv")
    (raw / "ratings").mkdir(parents=True, exist_ok=True)
    for name, rows in (("a", ratings.head(30)), ("b", ratings[30:])):
        rows.write_parquet(raw / "ratings" / f"{name}.parquet")


@pytest.fixture
def raw(tmp_path):
    write_days(tmp_path / "raw", world.events(), world.ratings())
    return tmp_path / "raw"


@pytest.fixture(autouse=True, scope="module")
def small_pieces():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(by_day, "ROWS", 400)  # three days a join
        patch.setattr(spread, "workers", lambda: 2)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Raw files and the home of a finished build of them."""
    folder = tmp_path_factory.mktemp("made")
    write_days(folder / "raw", world.events(), world.ratings())
    built(config(folder / "home", raw=folder / "raw"), folder / "out")
    return folder


@pytest.fixture
def before(made, tmp_path):
    """A copy of it to change: where the files are decides nothing."""
    for name in ("raw", "home"):
        shutil.copytree(made / name, tmp_path / name)
    return tmp_path


def test_all_steps_in_parts_are_those_in_memory_and_a_second_run_computes_nothing(tmp_path, raw):
    memory = built(config(tmp_path / "memory home", "memory", raw), tmp_path / "memory")
    cfg = config(tmp_path / "home", raw=raw)
    first = built(cfg, tmp_path / "first")
    same(tmp_path / "first", tmp_path / "memory")
    again = built(cfg, tmp_path / "again")
    same(tmp_path / "again", tmp_path / "memory")
    assert (first["features"]["days_computed"], first["dataset"]["days_computed"]) == (24, 15)
    assert (again["features"]["days_computed"], again["dataset"]["days_computed"]) == (0, 0)
    for found in (first, again):
        told_alike(found, memory)
    one = tmp_path / "first" / "dataset" / "train.parquet" / "2024-01-16.parquet"
    assert one.samefile(tmp_path / "again" / "dataset" / "train.parquet" / "2024-01-16.parquet"), "not a copy"
    assert not [p for p in tmp_path.rglob("*") if p.name in (".judged", ".joined")]


def without_last_day(raw):
    (raw / "visits" / "2024-01-24.csv").unlink()


def other_label(raw):
    change(raw, "2024-01-09", pl.col("returned").is_first_distinct().cast(pl.Int64).alias("returned"))


def late_row(raw):
    """A visit of the 9th that arrives with the last day's file."""
    file = raw / "visits" / "2024-01-24.csv"
    file.write_text(file.read_text() + "9999,2024-01-09T10:00:00.000000,3,2,19.5,0\n")


def day_away(raw):
    (raw / "visits" / "2024-01-09.csv").unlink()


def bad_row(raw):
    file = raw / "visits" / "2024-01-12.csv"
    file.write_text(file.read_text().replace("\n", "\nx,y,z,1,2,3\n", 1))


def the_same_id_twice(raw):
    """A row of the 5th repeats an id of the 20th, which so is the later one."""
    last = (raw / "visits" / "2024-01-20.csv").read_text().splitlines()[1].split(",")[0]
    file = raw / "visits" / "2024-01-05.csv"
    file.write_text(file.read_text() + f"{last},2024-01-05T23:59:00.000000,3,2,19.5,0\n")


def other_rating(raw):
    file = raw / "ratings" / "b.parquet"
    rows = pl.read_parquet(file)
    at = rows["rated_at"].dt.date() == date(2024, 1, 20)
    rows.with_columns(pl.when(at).then(0.25).otherwise(pl.col("stars")).alias("stars")).write_parquet(file)


def numbers_as_text(raw):
    """One of the two files has text for its numbers: then both are read as text, the unchanged one too."""
    file = raw / "ratings" / "b.parquet"
    pl.read_parquet(file).with_columns(pl.col("stars").cast(pl.String)).write_parquet(file)


def change(raw, day, expression):
    file = raw / "visits" / f"{day}.csv"
    pl.read_csv(file).with_columns(expression).write_csv(file)


# days of features: from the day on as far as a window reaches (the shop's: 4 days, 2 days ago); of the data set,
# whose 15 days begin with the 10th: those whose own rows, or rows that the join could see, are others
CHANGES = [
    (without_last_day, 0, 1),
    (other_label, 7, 12),
    (late_row, 7, 13),
    (day_away, 6, 13),
    (bad_row, 0, 0),
    (the_same_id_twice, 12, 14),
    (other_rating, 0, 5),
    (numbers_as_text, 0, 0),
]


@pytest.mark.parametrize(("change", "features_days", "dataset_days"), CHANGES, ids=[c[0].__name__ for c in CHANGES])
def test_after_a_change_only_the_days_that_it_reaches_are_computed(tmp_path, raw, change, features_days, dataset_days):
    cfg = config(tmp_path / "home", raw=raw)
    built(cfg, tmp_path / "before")
    change(raw)
    found = built(cfg, tmp_path / "after")
    memory = built(config(tmp_path / "memory home", "memory", raw), tmp_path / "memory")
    same(tmp_path / "after", tmp_path / "memory")
    told_alike(found, memory)
    assert found["features"]["days_computed"] == features_days
    assert found["dataset"]["days_computed"] == dataset_days


def test_a_new_day_computes_itself(tmp_path, raw):
    cfg = config(tmp_path / "home", raw=raw)
    aside = (raw / "visits" / "2024-01-24.csv").rename(tmp_path / "aside.csv")
    built(cfg, tmp_path / "before")
    aside.rename(raw / "visits" / "2024-01-24.csv")
    found = built(cfg, tmp_path / "after")
    built(config(tmp_path / "memory home", "memory", raw), tmp_path / "memory")
    same(tmp_path / "after", tmp_path / "memory")
    assert found["features"]["days_computed"] == 1
    assert found["dataset"]["days_computed"] == 1


def test_of_unchanged_files_nothing_is_read(tmp_path, raw, monkeypatch):
    cfg, out = config(tmp_path / "home", raw=raw), tmp_path / "out"
    built(cfg, out)
    scan, height, read = raw_table._scan, parts.height, []
    monkeypatch.setattr(raw_table, "_scan", lambda name, label, file: read.append(file.name) or scan(name, label, file))
    monkeypatch.setattr(shelf, "height", lambda file: read.append(file.name) or height(file))
    monkeypatch.setattr(by_day, "_labels", lambda file, label: pytest.fail(f"{file} is counted again"))
    built(cfg, out)
    assert sorted(read) == ["2024-01-01.csv", "a.parquet"], "one of each kind, for its columns"
    change(raw, "2024-01-09", pl.col("returned").is_first_distinct().cast(pl.Int64).alias("returned"))
    read.clear()
    ingest(cfg.workload, cfg.root, "", tmp_path / "again", None, cfg)
    assert read.count("2024-01-09.csv") == 2, "for its columns and for its rows"


def test_other_labels_are_counted_again(made, before):
    cfg = config(before / "home", raw=before / "raw")
    change(before / "raw", "2024-01-14", (1 - pl.col("returned")).alias("returned"))
    found = built(cfg, before / "out")
    memory = built(config(before / "memory home", "memory", before / "raw"), before / "memory")
    told_alike(found, memory)


def test_times_with_and_without_a_zone_are_both_read_as_text(tmp_path, raw):
    file = raw / "ratings" / "b.parquet"
    rows = pl.read_parquet(file)
    rows.with_columns(pl.col("rated_at").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")).write_parquet(file)
    for engine in ("partitions", "memory"):
        cfg = config(tmp_path / "home", engine, raw)
        ingest(cfg.workload, cfg.root, "", tmp_path / engine, None, cfg)
    mine, theirs = (pl.read_parquet(tmp_path / engine / "ratings.parquet") for engine in ("partitions", "memory"))
    assert mine.equals(theirs)
    assert mine.schema["rated_at"] == pl.String


def test_a_changed_definition_computes_all(made, before):
    tmp_path = before
    cfg = config(tmp_path / "home", raw=before / "raw")
    valid = made / "out" / "validate"
    shop = dataclasses.replace(SPEC.windows[1], windows=("1d", "3d"))
    spec = dataclasses.replace(SPEC, windows=(SPEC.windows[0], shop))
    out = tmp_path / "out"
    found = features(cfg.workload, spec, valid, out, cfg)
    assert found["days_computed"] == 24
    memory = world.config(tmp_path).workload
    at_once = tmp_path / "valid"
    at_once.mkdir()
    for name in ("visits", "ratings"):
        pl.read_parquet(valid / f"{name}.parquet").write_parquet(at_once / f"{name}.parquet")
    features(memory, spec, at_once, tmp_path / "wanted")
    for table in ("features", "spending", "returns", "rating"):
        mine, theirs = (pl.read_parquet(place / f"{table}.parquet") for place in (out, tmp_path / "wanted"))
        assert mine.equals(theirs)


def test_without_incremental_every_day_is_computed_and_nothing_is_kept(tmp_path, raw):
    cfg = config(tmp_path / "home", raw=raw, incremental=False)
    for _ in range(2):
        found = built(cfg, tmp_path / "out")
        assert (found["features"]["days_computed"], found["dataset"]["days_computed"]) == (24, 15)
    assert not (tmp_path / "home" / "parts").exists()


def test_splits_that_begin_and_end_within_a_day(made, tmp_path):
    """A valid split of 36 hours; so those before it begin and end at noon."""
    hours = {"workload": {"split": {"valid": "36h"}}}
    at_once = tmp_path / "features"
    at_once.mkdir()
    for table in ("features", "spending", "returns", "rating"):
        pl.read_parquet(made / "out" / "features" / f"{table}.parquet").write_parquet(at_once / f"{table}.parquet")
    found = {}
    for engine, folder in (("memory", at_once), ("partitions", made / "out" / "features")):
        settings = {"home": str(tmp_path / engine), "data": {"engine": engine}, **hours}
        found[engine] = dataset(
            load(workload=world.WORKLOAD, overrides=settings), SPEC, folder, tmp_path / "out" / engine
        )
    for name in ("sweep_train", "valid", "train", "test", "replay"):
        mine, theirs = (pl.read_parquet(tmp_path / "out" / e / f"{name}.parquet") for e in ("partitions", "memory"))
        assert mine.equals(theirs), name
        assert found["memory"][name] == found["partitions"][name]
    assert found["memory"]["sweep_train"]["end"].endswith("12:00:00")


def test_tables_of_another_engine_are_refused(tmp_path, raw):
    built(config(tmp_path / "memory home", "memory", raw), tmp_path / "memory")
    cfg = config(tmp_path / "home", raw=raw)
    with pytest.raises(SeawayError, match=r"is one file, not a folder of days.*data.engine"):
        features(cfg.workload, SPEC, tmp_path / "memory" / "validate", tmp_path / "out", cfg)
    with pytest.raises(SeawayError, match=r"is one file, not a folder of days.*data.engine"):
        dataset(cfg, SPEC, tmp_path / "memory" / "features", tmp_path / "out")


def test_events_of_another_day_are_refused(tmp_path):
    rows = world.events(rows=50, days=3)
    parts.write(rows, tmp_path / "valid" / "visits.parquet", date(2024, 1, 1))
    parts.write(world.ratings(), tmp_path / "valid" / "ratings.parquet", date(2024, 1, 1))
    cfg = config(tmp_path / "home")
    with pytest.raises(SeawayError, match="events of another day"):
        features(cfg.workload, SPEC, tmp_path / "valid", tmp_path / "out", cfg)
