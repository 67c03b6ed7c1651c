"""Batch scoring of a version with slices: each row by the model of its slice, as the server routes it."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from conftest import make_config
from score_world import asked, make_bundle, run, serving, table, write_days

from components.score.cluster import as_json, from_json, staged
from components.score.model import Model, load
from components.score.places import Place
from components.score.table import partitions, read
from seaway import scorer
from seaway.artifacts import content_hash, write_json
from seaway.errors import SeawayError
from seaway.features import vector
from seaway.registry import Registry
from seaway.storage import Storage

KEPT = {"3": 0.2, "7": 0.8, "11": 0.5}  # their thresholds; every other value is the global model's
UNKNOWN = 987_654


@pytest.fixture(scope="module", params=["machine", "still"])
def sliced(request, tmp_path_factory, toy_hooks):
    """(config, spec, rows, server): a champion with three slices, by a column that is no feature and by one that is."""
    folder, by = tmp_path_factory.mktemp(f"by-{request.param}"), request.param
    config, spec = make_config(folder, toy_hooks)
    bundle = make_bundle(folder / "model", spec)
    kept = {name: {"folder": f"slices/00{i}", "threshold": KEPT[name]} for i, name in enumerate(KEPT, start=1)}
    for seed, own in enumerate(kept.values(), start=1):
        make_bundle(bundle / own["folder"], spec, seed)
    write_json(bundle / "slices.json", {"by": by, "kept": kept, "left": {"5": {"reason": "too few rows"}}})
    register = Registry.of(config).register
    identity = {"run": "run-sliced", "feature_hash": spec.hash}
    version = register(bundle, content_hash(bundle), params={}, metrics={}, tags={}, identity=identity)
    Registry.of(config).promote(version.version)
    rows, draw = table(rows=600), np.random.default_rng(5)
    values = pl.Series(by, draw.choice([3, 5, 7, 11, UNKNOWN], len(rows)), dtype=rows.schema[by])
    rows = rows.with_columns(values)
    return config, spec, rows, serving(config, folder)


@pytest.mark.parametrize("at_once", [1, 64])
def test_routed_rows_have_the_bits_decisions_and_slices_of_the_servers_answers(sliced, tmp_path, at_once):
    config, spec, rows, server = sliced
    run(config, write_days(rows, tmp_path / "data"), tmp_path / "out", batch=32)
    made = pl.read_parquet(tmp_path / "out" / "scores")
    answers, tags = asked(server, spec, rows, at_once)
    served = np.array([score for score, _ in answers], dtype=np.float32)
    assert made["slice"].to_list() == tags["slice"]
    np.testing.assert_array_equal(made["probability"].to_numpy().view(np.uint32), served.view(np.uint32))
    assert made["decision"].to_list() == [decision for _, decision in answers]
    assert min(made.filter(slice=name).height for name in (*KEPT, "global")) > 60
    by_global = (made["probability"] >= 0.5).cast(pl.Int8)
    assert (made["decision"] != by_global).any(), "a threshold of its own decides otherwise for some row"
    for name, threshold in (KEPT | {"global": 0.5}).items():
        some = made.filter(slice=name)
        assert some["decision"].to_list() == (some["probability"] >= threshold).cast(pl.Int8).to_list()


def test_an_unknown_value_has_the_bits_of_the_global_model_alone(sliced, tmp_path):
    config, spec, rows, _ = sliced
    run(config, write_days(rows, tmp_path / "data"), tmp_path / "out")
    made, model = pl.read_parquet(tmp_path / "out" / "scores"), load(config)
    features = vector(spec, {name: rows[name].to_numpy() for name in spec.names})
    alone = scorer.scores(scorer.session(model.onnx, len(spec.names)), features)
    elsewhere = rows[model.routed_by[0]].cast(pl.Int64).is_in([5, UNKNOWN]).to_numpy()
    same = made["probability"].to_numpy().view(np.uint32) == alone.view(np.uint32)
    assert 100 < elsewhere.sum() < 500 and same[elsewhere].all() and not same[~elsewhere].any()
    assert (made["slice"].to_numpy() == "global").tolist() == elsewhere.tolist()


def test_the_log_and_the_reasons_are_of_the_rows_slice(sliced, tmp_path):
    config, spec, rows, server = sliced
    some = rows.head(24)
    run(config, write_days(some, tmp_path / "data"), tmp_path / "out", log=True, explain="all")
    made = pl.read_parquet(tmp_path / "out" / "scores")
    _, tags = asked(server, spec, some, 8, explain=True)
    assert made["reasons"].to_list() == tags["reasons"]
    lines = [
        json.loads(line)
        for file in sorted((tmp_path / "out" / "log").iterdir())
        for line in file.read_text().splitlines()
    ]
    assert [line["s"] for line in lines] == tags["slice"]


def test_rows_that_change_their_slice_are_scored_again_and_no_others(sliced, tmp_path):
    config, _, rows, _ = sliced
    data, out, by = write_days(rows, tmp_path / "data"), tmp_path / "out", load(config).routed_by[0]
    assert run(config, data, out)["scored"] == 3
    assert run(config, data, out)["scored"] == 0
    day = data / "2024-01-02.parquet"
    was = pl.read_parquet(day)
    was.with_columns(pl.lit(7).cast(was.schema[by]).alias(by)).write_parquet(day)
    assert run(config, data, out)["scored"] == 1
    assert set(pl.read_parquet(out / "scores" / day.name)["slice"]) == {"7"}


def test_a_row_that_cannot_be_scored_names_no_slice(sliced, tmp_path):
    config, _, rows, _ = sliced
    odd = rows.with_columns(size=pl.when(pl.col("id") % 10 == 3).then(float("nan")).otherwise("size").cast(pl.Float32))
    assert run(config, write_days(odd, tmp_path / "data"), tmp_path / "out")["unscored_rows"] == 60
    run(config, write_days(rows, tmp_path / "whole"), tmp_path / "whole-out")
    made, whole = (pl.read_parquet(tmp_path / name / "scores") for name in ("out", "whole-out"))
    there = made["probability"].is_not_null()
    assert (made["slice"].is_not_null() == there).all() and (~there).sum() == 60
    assert made.filter(there).equals(whole.filter(there))


def test_without_the_column_of_the_slices_nothing_is_scored(sliced, tmp_path):
    config, _, rows, _ = sliced
    by = load(config).routed_by[0]
    with pytest.raises(SeawayError, match=rf"lacks the column {by}"):
        run(config, write_days(rows.drop(by), tmp_path / "data"), tmp_path / "out")
    assert not (tmp_path / "out" / "scores").exists()


def test_a_rayjob_gets_the_models_and_the_column(sliced, tmp_path):
    config, spec, rows, _ = sliced
    model = load(config)
    carried = as_json(model)
    given = Model(**from_json(carried, hashlib.sha256(carried).hexdigest()))
    assert (given.files, given.onnx, given.spec) == (model.files, model.onnx, model.spec) and len(given.files) == 7
    parts = partitions(Place(str(write_days(rows, tmp_path / "data"))), spec)
    staged(
        Storage(f"file://{tmp_path}/objects"), f"file://{tmp_path}/objects/x", parts, model, ("id", *model.routed_by)
    )
    there = partitions(Place(str(tmp_path / "objects" / "x")), spec)
    before, after = (read(p[1], spec, spec.hash, ("id",), model.routed_by) for p in (parts, there))
    assert after.select(sorted(after.columns)).equals(before.select(sorted(before.columns)))


def test_a_text_routes_too(sliced, tmp_path):
    config, spec, rows, _ = sliced
    model = load(config)
    if model.routed_by[0] in spec.names:
        pytest.skip("a feature is a number")
    run(config, write_days(rows, tmp_path / "data"), tmp_path / "out")
    texts = rows.with_columns(pl.col("machine").cast(pl.String).replace("5", None))
    run(config, write_days(texts, tmp_path / "texts"), tmp_path / "texts-out")
    made, others = (pl.read_parquet(tmp_path / name / "scores") for name in ("out", "texts-out"))
    assert made.equals(others)
