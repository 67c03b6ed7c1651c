"""Batch scoring: the server's scores, every partition once, whatever happens in between."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "seaway"))
from conftest import make_config
from s3_server import BUCKET, s3_server
from score_world import champion, make_bundle, registered, table, write_days

from components.score.model import load
from components.score.partition import known
from components.score.places import Place
from components.score.step import Meter, destination, score, score_table
from components.score.table import partitions
from seaway import scorer
from seaway.artifacts import content_hash, write_json
from seaway.errors import SeawayError
from seaway.features import HASH_KEY, vector
from seaway.registry import Registry


@pytest.fixture(scope="module")
def world(tmp_path_factory, toy_hooks):
    """(config, spec): a home whose champion is version 1, and version 2 beside it."""
    folder = tmp_path_factory.mktemp("scoring")
    config, spec = make_config(folder, toy_hooks)
    champion(config, spec, folder, seed=0)
    registered(config, spec, folder, seed=1)
    return config, spec


def one_by_one(config, **scoring):
    """Without Ray: one worker."""
    return config.model_copy(update={"scoring": config.scoring.model_copy(update={"workers": 1, **scoring})})


def run(config, data, out, **scoring):
    config = one_by_one(config, out=str(out), **scoring)
    return score_table(config, load(config, config.scoring.version), Place.of(config, str(data)), destination(config))


def stamps(out: Path) -> dict[str, int]:
    """When each file but the summary was written, by name."""
    files = [p for p in out.rglob("*") if p.is_file() and p.name != "summary.json"]
    return {p.relative_to(out).as_posix(): p.stat().st_mtime_ns for p in files}


@pytest.fixture(scope="module")
def server(world, tmp_path_factory):
    """The model server with the champion, which reads no history: this workload's features are all in the request."""
    from prometheus_client import CollectorRegistry

    from serving.model_server import ModelServer

    config, _ = world
    file = tmp_path_factory.mktemp("online") / "online.db"
    sqlite3.connect(file).close()
    version = Registry.of(config).get("champion")
    made = ModelServer(version.bundle, json.dumps({"type": "sqlite", "path": str(file)}), "seaway", version="1")
    made.load(CollectorRegistry())
    return made


def asked(server, spec, rows: pl.DataFrame, at_once: int, **tags) -> tuple[list, list]:
    """(probability, decision) of each row and its reasons, as the server answers requests of so many rows."""
    answers, reasons = [], []
    for chunk in rows.select(spec.inputs).iter_slices(at_once):
        lines = [[v.isoformat() if hasattr(v, "isoformat") else v for v in row] for row in chunk.iter_rows()]
        message = {"data": {"names": list(spec.inputs), "ndarray": lines}, "meta": {"tags": tags}}
        answer = server.predict_raw(message)
        answers += answer["data"]["ndarray"]
        reasons += answer["meta"]["tags"].get("reasons", [])
    return answers, reasons


@pytest.mark.parametrize("at_once", [1, 3, 64])
def test_scores_are_bit_for_bit_those_that_the_server_answers(world, server, tmp_path, at_once):
    config, spec = world
    rows = table(rows=509)
    run(config, write_days(rows, tmp_path / "data"), tmp_path / "out", batch=100)
    made = pl.read_parquet(tmp_path / "out" / "scores")
    answers, _ = asked(server, spec, rows, at_once)
    served = np.array([score for score, _ in answers], dtype=np.float32)
    assert made["id"].to_list() == rows["id"].to_list()
    np.testing.assert_array_equal(made["probability"].to_numpy().view(np.uint32), served.view(np.uint32))
    assert made["decision"].to_list() == [decision for _, decision in answers]
    assert 0 < made["decision"].sum() < len(made)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 70), min_size=1, max_size=12))
def test_a_rows_score_does_not_hang_on_its_neighbours(world, sizes):
    config, spec = world
    model = load(config)
    running = scorer.session(model.onnx, len(spec.names))
    rows = table(rows=sum(sizes), seed=7)
    features = vector(spec, {name: rows[name].to_numpy() for name in spec.names})
    whole = scorer.scores(running, features)
    edges = np.cumsum([0, *sizes])
    split = [scorer.scores(running, features[a:b]) for a, b in pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(split).view(np.uint32), whole.view(np.uint32))


def test_a_partition_has_one_file_its_log_and_what_they_are_of(world, tmp_path):
    config, spec = world
    rows = table()
    summary = run(config, write_days(rows, tmp_path / "data"), tmp_path / "out", log=True)
    assert (summary["partitions"], summary["scored"], summary["rows"]) == (3, 3, 300)
    day = pl.read_parquet(tmp_path / "out" / "scores" / "2024-01-02.parquet")
    assert day.columns == ["id", "at", "probability", "decision", "model_version", "run", "feature_hash"]
    assert day["at"].dt.date().unique().to_list() == [rows["at"][0].date().replace(day=2)]
    assert (
        set(day["model_version"]) == {"1"} and set(day["run"]) == {"run-0"} and set(day["feature_hash"]) == {spec.hash}
    )
    log = [json.loads(line) for line in (tmp_path / "out" / "log" / "2024-01-02.jsonl").read_text().splitlines()]
    assert [line["id"] for line in log] == [str(value) for value in day["id"]]
    assert [np.float32(line["p"]) for line in log] == day["probability"].to_list()
    assert {(line["v"], line["run"], line["features"]) for line in log} == {("1", "run-0", spec.hash)}
    assert {line["d"] for line in log} == {0, 1}
    manifest = known(Place(str(tmp_path / "out")), "2024-01-02")
    assert manifest["model"]["digest"] == load(config).digest == summary["model"]


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


def test_reasons_are_those_of_the_server(world, server, tmp_path):
    config, spec = world
    rows = table(rows=40, days=1)
    run(config, write_days(rows, tmp_path / "data"), tmp_path / "out", explain="decided")
    made = pl.read_parquet(tmp_path / "out" / "scores")
    _, reasons = asked(server, spec, rows, 8, explain=True)
    for row, decision, codes in zip(range(40), made["decision"], made["reasons"].to_list(), strict=True):
        assert (codes is None) == (decision == 0)
        if codes is not None:
            assert codes == reasons[row]


def test_rows_without_a_finite_feature_have_no_score_and_are_counted(world, tmp_path):
    config, _ = world
    rows = table(rows=50, days=1)
    odd = rows.with_columns(
        size=pl.when(pl.col("id") % 10 == 3).then(float("nan")).otherwise("size").cast(pl.Float32),
        speed=pl.when(pl.col("id") % 10 == 4).then(None).otherwise("speed"),
    )
    run(config, write_days(rows, tmp_path / "data"), tmp_path / "out")
    summary = run(config, write_days(odd, tmp_path / "odd"), tmp_path / "odd-out", log=True)
    assert summary["unscored_rows"] == 10
    left, right = (pl.read_parquet(tmp_path / name / "scores") for name in ("out", "odd-out"))
    there = right["probability"].is_not_null()
    assert (~there).sum() == 10 and right["decision"].null_count() == 10
    assert right.filter(there).equals(left.filter(there))
    assert len((tmp_path / "odd-out" / "log" / "2024-01-01.jsonl").read_text().splitlines()) == 40


def test_without_an_id_a_row_is_named_by_its_place(world, tmp_path):
    config, _ = world
    (tmp_path / "data").mkdir()
    table(rows=20, days=1).drop("id", "at").write_parquet(tmp_path / "data" / "some.parquet")
    run(config, tmp_path / "data", tmp_path / "out")
    assert pl.read_parquet(tmp_path / "out" / "scores")["id"].to_list()[:2] == ["some/0", "some/1"]


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


def test_features_of_other_definitions_are_refused(world, tmp_path, toy_hooks):
    config, spec = world
    table().write_parquet(tmp_path / "other.parquet", metadata={HASH_KEY: "f" * 64})
    with pytest.raises(SeawayError, match=f"of hash ffffffffffff..., the version was trained on {spec.hash[:12]}"):
        run(config, tmp_path / "other.parquet", tmp_path / "out")
    changed = type(spec)(**{**spec.__dict__, "version": "toy_v2"})
    with pytest.raises(SeawayError, match="version 1 was trained on features of hash"):
        score(one_by_one(config), changed, tmp_path, tmp_path / "out")


def test_without_a_champion_it_says_what_to_do(tmp_path, toy_hooks):
    config, _ = make_config(tmp_path, toy_hooks)
    with pytest.raises(SeawayError, match=r"there is no champion of toy yet: .* --version N"):
        load(config)
    with pytest.raises(SeawayError, match="no version '7'"):
        load(config, "7")


def test_a_bundle_that_was_changed_does_not_score(tmp_path, toy_hooks):
    config, spec = make_config(tmp_path, toy_hooks)
    version = champion(config, spec, tmp_path)
    with (Path(version.bundle) / "model.onnx").open("ab") as stream:
        stream.write(b" ")
    with pytest.raises(SeawayError, match="was changed after it was signed"):
        load(config)


def test_a_version_with_models_of_slices_is_not_scored_as_if_it_had_one(tmp_path, toy_hooks):
    config, spec = make_config(tmp_path, toy_hooks)
    bundle = make_bundle(tmp_path / "model", spec)
    write_json(bundle / "slices.json", {})
    Registry.of(config).register(bundle, content_hash(bundle), params={}, metrics={}, tags={}, identity={})
    with pytest.raises(SeawayError, match="version 1 has models of slices"):
        load(config, "1")


@pytest.mark.parametrize(("name", "what"), [("nothing.parquet", "does not exist"), ("empty", "holds no Parquet file")])
def test_nothing_to_score_is_said(world, tmp_path, name, what):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SeawayError, match=what):
        run(world[0], tmp_path / name, tmp_path / "out")


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


def test_the_command(world, tmp_path, capsys):
    from seaway.cli import main

    config, _ = world
    data = write_days(table(days=5), tmp_path / "data")
    common = ["score", "--workload", str(config.workload_file), "--home", str(config.home), "--data", str(data)]
    common += ["--out", str(tmp_path / "out"), "--set", "scoring.workers=1"]
    assert main([*common, "--from", "2024-01-02", "--to", "2024-01-03", "--explain"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("version 1: ") and " rows in 2 partitions, " in told.out
    assert "score: version 1, 2 partitions into" in told.err
    assert sorted(p.stem for p in (tmp_path / "out" / "scores").iterdir()) == ["2024-01-02", "2024-01-03"]
    assert "reasons" in pl.read_parquet_schema(tmp_path / "out" / "scores" / "2024-01-02.parquet")
    assert main([*common, "--version", "2", "--json", "--log"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["version"], summary["scored"]) == ("2", 5)
    assert len(list((tmp_path / "out" / "log").iterdir())) == 5
    assert main([*common, "--version", "9"]) == 2
    assert "no version '9'" in capsys.readouterr().err
    assert main([*common, "--to", "yesterday"]) == 2
    assert "--to 'yesterday' is no day: write it as 2018-04-01" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_named(world, tmp_path):
    config, _ = world
    data = write_days(table(), tmp_path / "data")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SeawayError, match=rf"{tmp_path}/file/\S+ cannot be written: .* or give another --out"):
        run(config, data, tmp_path / "file")


def test_progress_tells_rows_a_second_and_the_time_left(world, tmp_path):
    _, spec = world
    table().write_parquet(tmp_path / "all.parquet")
    parts = partitions(Place(str(tmp_path / "all.parquet")), spec)
    assert sum(part.rows for part in parts) == 300
    said: list[str] = []
    meter = Meter(parts, [], said.append)
    meter.tell({"rows": 100, "seconds": 10.0})
    assert said == ["score: 1 of 3 partitions, 100 of 300 rows, 10 a second, about 20 s left"]


MACHINES = Path(__file__).parents[1] / "workloads" / "machine_failure" / "workload.yaml"


@pytest.fixture(scope="module", params=["memory", "partitions"])
def machines(request, tmp_path_factory):
    """(config, spec, the feature step's folder, the rows of the data set): a workload with a view of another source."""
    from components.dataset.step import dataset
    from components.features.step import features
    from components.ingest.step import ingest
    from components.validate.step import validate
    from seaway.config import load as load_config
    from seaway.hooks import resolve

    folder = tmp_path_factory.mktemp("machines")
    overrides = {"home": str(folder / "home"), "scale": "tiny", "data": {"engine": request.param}}
    config = load_config(workload=MACHINES, overrides=overrides)
    spec = resolve(config.workload.features, config.root)
    ingest(config.workload, config.root, config.scale, folder / "raw", config=config)
    validate(config.workload, folder / "raw", folder / "valid", folder / "quarantine", config=config)
    features(config.workload, spec, folder / "valid", folder / "features", config)
    dataset(config, spec, folder / "features", folder / "dataset")
    champion(config, spec, folder)
    return config, spec, folder / "features", pl.read_parquet(folder / "dataset" / "test.parquet")


def test_the_feature_steps_table_gives_the_data_sets_rows(machines, tmp_path):
    """Bit for bit, with the newest values of another source as of each row, whichever way the tables are kept."""
    config, spec, folder, rows = machines
    assert spec.latest
    model, out = load(config), tmp_path / "out"
    score_table(one_by_one(config), model, Place(str(folder)), Place(str(out)))
    running = scorer.session(model.onnx, len(spec.names))
    expected = scorer.scores(running, vector(spec, {name: rows[name].to_numpy() for name in spec.names}))
    source = config.workload.sources[config.workload.source]
    made = rows.select(source.id).join(pl.read_parquet(out / "scores"), on=source.id, how="left", maintain_order="left")
    np.testing.assert_array_equal(made["probability"].to_numpy().view(np.uint32), expected.view(np.uint32))
    assert score_table(one_by_one(config), model, Place(str(folder)), Place(str(out)))["scored"] == 0
    with pytest.raises(SeawayError, match="holds features of hash"):  # which the feature step has written in its files
        other = load(config).__class__(**{**model.__dict__, "feature_hash": "0" * 64})
        score_table(one_by_one(config), other, Place(str(folder)), Place(str(tmp_path / "other")))
