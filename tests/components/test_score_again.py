"""Batch scoring: every partition once, and again only where something has changed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "seaway"))
from conftest import make_config
from s3_server import BUCKET, s3_server
from score_world import champion, registered, run, table, write_days

from components.score.places import Place
from components.score.step import Meter
from components.score.table import partitions
from seaway.errors import SeawayError


@pytest.fixture(scope="module")
def world(tmp_path_factory, toy_hooks):
    """(config, spec): a home whose champion is version 1, and version 2 beside it."""
    folder = tmp_path_factory.mktemp("scoring")
    config, spec = make_config(folder, toy_hooks)
    champion(config, spec, folder, seed=0)
    registered(config, spec, folder, seed=1)
    return config, spec


def stamps(out: Path) -> dict[str, int]:
    """When each file but the summary was written, by name."""
    files = [p for p in out.rglob("*") if p.is_file() and p.name != "summary.json"]
    return {p.relative_to(out).as_posix(): p.stat().st_mtime_ns for p in files}


def test_what_is_done_is_left_alone_and_what_has_changed_is_done_again(world, tmp_path):
    config, _ = world
    data, out = write_days(table(), tmp_path / "data"), tmp_path / "out"
    run(config, data, out, log=True)
    before, scores = stamps(out), (out / "scores" / "2024-01-02.parquet").read_bytes()

    def again(**scoring) -> tuple[int, set[str]]:
        """Partitions scored, and those of which a file is another one now."""
        nonlocal before
        summary = run(config, data, out, log=True, **scoring)
        now = stamps(out)
        changed = {Path(name).stem for name in now if now[name] != before.get(name)}
        before = now
        return summary["scored"], changed

    assert again() == (0, set())
    os.utime(data / "2024-01-01.parquet")
    assert again() == (0, set()), "only touched"
    other = pl.read_parquet(data / "2024-01-02.parquet").with_columns(pl.col("size") + 1)
    other.write_parquet(data / "2024-01-02.parquet")
    assert again() == (1, {"2024-01-02"})
    assert (out / "scores" / "2024-01-02.parquet").read_bytes() != scores
    (out / "scores" / "2024-01-03.parquet").write_bytes(b"torn")
    assert again() == (1, {"2024-01-03"})
    (out / "log" / "2024-01-01.jsonl").unlink()
    assert again() == (1, {"2024-01-01"})
    (out / "manifests" / "2024-01-01.json").write_text("{")
    assert again() == (1, {"2024-01-01"})
    assert again(version="2") == (3, {"2024-01-01", "2024-01-02", "2024-01-03"})
    assert set(pl.read_parquet(out / "scores")["model_version"]) == {"2"}
    assert again(version="2") == (0, set())
    assert again(version="2", explain="decided") == (3, {"2024-01-01", "2024-01-02", "2024-01-03"})


def test_rows_that_are_the_same_in_another_file_are_not_scored_again(world, tmp_path):
    config, _ = world
    rows, out = table(), tmp_path / "out"
    first = rows.filter(pl.col("at").dt.day() < 3)
    (tmp_path / "data").mkdir()
    first.write_parquet(tmp_path / "data" / "features.parquet")
    assert run(config, tmp_path / "data" / "features.parquet", out)["scored"] == 2
    rows.write_parquet(tmp_path / "data" / "features.parquet")
    summary = run(config, tmp_path / "data" / "features.parquet", out)
    assert (summary["scored"], summary["unchanged"]) == (1, 2)
    assert pl.read_parquet(out / "scores")["id"].to_list() == rows["id"].to_list()


def test_a_range_of_days(world, tmp_path):
    config, _ = world
    data = write_days(table(days=5), tmp_path / "data")
    days = {"start": "2024-01-02", "end": "2024-01-04"}
    assert run(config, data, tmp_path / "out", **days)["names"] == ["2024-01-02", "2024-01-03"]
    table(days=5).write_parquet(tmp_path / "all.parquet")
    assert run(config, tmp_path / "all.parquet", tmp_path / "out", **days)["scored"] == 0, "the same rows"
    with pytest.raises(SeawayError, match="has days from 2024-01-01 to 2024-01-05, none of those"):
        run(config, data, tmp_path / "out", start="2025-01-01")
    with pytest.raises(SeawayError, match="'tomorrow' is no day"):
        run(config, data, tmp_path / "out", start="tomorrow")


def test_one_partition_that_cannot_be_scored_holds_no_other_up(world, tmp_path):
    config, _ = world
    rows = table(days=4)
    data, out = write_days(rows, tmp_path / "data"), tmp_path / "out"
    good = (data / "2024-01-02.parquet").read_bytes()
    (data / "2024-01-02.parquet").write_bytes(good[:-200])
    pl.read_parquet(data / "2024-01-03.parquet").drop("speed").write_parquet(data / "2024-01-03.parquet")
    with pytest.raises(SeawayError) as caught:
        run(config, data, out)
    text = str(caught.value)
    assert "2 of 4 partitions could not be scored" in text
    assert f"{data}/2024-01-02.parquet cannot be read" in text and "lacks the column speed" in text
    assert sorted(p.stem for p in (out / "scores").iterdir()) == ["2024-01-01", "2024-01-04"]
    assert set(json.loads((out / "summary.json").read_text())["failed"]) == {"2024-01-02", "2024-01-03"}
    write_days(rows, data)
    summary = run(config, data, out)
    assert (summary["scored"], summary["unchanged"]) == (2, 2)


def test_two_at_once_do_not_score_into_one_place(world, tmp_path, monkeypatch):
    from seaway import alive
    from seaway.artifacts import record_hash

    config, _ = world
    data = write_days(table(), tmp_path / "data")
    lock = config.home / "locks" / f"score-{record_hash([str(tmp_path / 'out')])[:16]}.lock"
    with alive.hold(lock), pytest.raises(SeawayError, match="another process is scoring into"):
        run(config, data, tmp_path / "out")


def test_object_storage_gives_and_takes(world, tmp_path, monkeypatch):
    config, _ = world
    data = write_days(table(), tmp_path / "data")
    run(config, data, tmp_path / "out")
    with s3_server() as endpoint:
        from seaway.storage import Storage

        store = Storage(f"s3://{BUCKET}/x", endpoint, "us-east-1")
        for file in data.iterdir():
            store.upload(file, f"s3://{BUCKET}/x/data/{file.name}")
        away = config.model_copy(
            update={"storage": config.storage.model_copy(update={"uri": store.uri, "endpoint": endpoint})}
        )
        summary = run(away, f"s3://{BUCKET}/x/data", f"s3://{BUCKET}/x/out")
        assert (summary["scored"], summary["rows"]) == (3, 300)
        for name in ("2024-01-01", "2024-01-03"):
            made = store.read(f"s3://{BUCKET}/x/out/scores/{name}.parquet")
            assert made == (tmp_path / "out" / "scores" / f"{name}.parquet").read_bytes()
        assert run(away, f"s3://{BUCKET}/x/data", f"s3://{BUCKET}/x/out")["scored"] == 0
        store.remove(f"s3://{BUCKET}/x/out/scores/2024-01-03.parquet")
        assert run(away, f"s3://{BUCKET}/x/data", f"s3://{BUCKET}/x/out")["scored"] == 1
        one = run(away, f"s3://{BUCKET}/x/data/2024-01-02.parquet", f"s3://{BUCKET}/x/out")
        assert (one["partitions"], one["unchanged"]) == (1, 1)
    assert run(config, f"file://{data}", f"file://{tmp_path / 'out'}")["scored"] == 0, "a file's URI is its path"


def test_progress_tells_rows_a_second_and_the_time_left(world, tmp_path):
    _, spec = world
    table().write_parquet(tmp_path / "all.parquet")
    parts = partitions(Place(str(tmp_path / "all.parquet")), spec)
    assert sum(part.rows for part in parts) == 300
    said: list[str] = []
    meter = Meter(parts, [], said.append)
    meter.tell({"rows": 100, "seconds": 10.0})
    assert said == ["score: 1 of 3 partitions, 100 of 300 rows, 10 a second, about 20 s left"]
