"""Batch scoring: what comes out is what the server answers."""

from __future__ import annotations

import json
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
from score_world import asked, champion, one_by_one, registered, run, serving, table, write_days

from components.score.model import load
from components.score.partition import known
from components.score.places import Place
from components.score.step import score_table
from seaway import scorer
from seaway.errors import SeawayError
from seaway.features import vector


@pytest.fixture(scope="module")
def world(tmp_path_factory, toy_hooks):
    """(config, spec): a home whose champion is version 1, and version 2 beside it."""
    folder = tmp_path_factory.mktemp("scoring")
    config, spec = make_config(folder, toy_hooks)
    champion(config, spec, folder, seed=0)
    registered(config, spec, folder, seed=1)
    return config, spec


@pytest.fixture(scope="module")
def server(world, tmp_path_factory):
    return serving(world[0], tmp_path_factory.mktemp("online"))


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


def test_reasons_are_those_of_the_server(world, server, tmp_path):
    config, spec = world
    rows = table(rows=40, days=1)
    run(config, write_days(rows, tmp_path / "data"), tmp_path / "out", explain="decided")
    made = pl.read_parquet(tmp_path / "out" / "scores")
    _, tags = asked(server, spec, rows, 8, explain=True)
    for row, decision, codes in zip(range(40), made["decision"], made["reasons"].to_list(), strict=True):
        assert (codes is None) == (decision == 0)
        if codes is not None:
            assert codes == tags["reasons"][row]


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
