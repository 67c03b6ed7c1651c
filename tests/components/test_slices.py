"""A model per slice: trained side by side, judged, routed; what falls back says why."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from components.train.step import train
from seaway.artifacts import read_json, write_json
from seaway.errors import SeawayError
from seaway.slices import FILE, Slices, word

PARAMS = {"learning_rate": 0.02, "batch_size": 64, "width": 8}
REGIONS = ("even", "odd", "rare")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two regions whose labels follow opposite signs of a feature, and one of a few rows."""
    folder = tmp_path_factory.mktemp("slices")
    draw = np.random.default_rng(3)
    for name, rows in (("sweep_train", 3000), ("valid", 2000), ("train", 5000), ("test", 2000)):
        features = draw.normal(size=(rows, 4)).astype(np.float32)
        region = draw.choice(3, rows, p=(0.5, 0.49, 0.01))
        chance = 1 / (1 + np.exp(-4 * features[:, 0] * np.where(region == 0, 1, -1) + 1))
        frame = {n: features[:, i] for i, n in enumerate(("size", "speed", "still", "hour"))}
        frame |= {"machine": [REGIONS[r] for r in region], "failed": (draw.random(rows) < chance).astype(np.int8)}
        pl.DataFrame(frame).write_parquet(folder / f"{name}.parquet")
    write_json(folder / "best.json", {"params": PARAMS, "epochs": 3, "threshold": 0.5})
    return folder


@pytest.fixture
def trained(world, toy, request):
    config, spec = toy(slices={"by": "machine", "minimum_rows": 200, "minimum_positives": 20})
    out = world / "bundle"
    if not out.exists():
        train(config, spec, world, world, out)
    return out, spec


def test_slices_are_kept_where_they_are_better_and_the_rest_say_why_not(trained):
    record = read_json(trained[0] / FILE)
    assert set(record["kept"]) == {"even", "odd"}
    for kept in record["kept"].values():
        assert kept["own"] > kept["global"] + 0.1
        assert not kept["exported"]  # the global model's graph was enough
        own = read_json(trained[0] / kept["folder"] / "model.json")
        assert own["background"] != read_json(trained[0] / "model.json")["background"]
        assert max(own["mean_abs"], key=own["mean_abs"].get) == "size"
    assert "minimum_rows 200" in record["left"]["rare"]["reason"]


def test_a_routed_row_is_scored_by_its_slice_and_an_unknown_one_by_the_global_model(trained, world):
    out, spec = trained
    slices = Slices(lambda name: (out / name).read_bytes(), len(spec.names))
    row = np.array([[2, 0, 0, 0]] * 4, dtype=np.float32)
    names = slices.names(["even", "odd", "rare", None])
    assert names == ["even", "odd", "", ""]
    scores = slices.scores(names, row, lambda some: np.full(len(some), 0.25, dtype=np.float32))
    assert scores[0] > 0.9
    assert scores[1] < 0.1
    assert scores[2] == scores[3] == 0.25


def test_a_failed_fit_falls_back_with_its_error(trained, tmp_path, monkeypatch):
    from components.slices import fit as fitting
    from components.train.loop import Rows

    rows = Rows(np.zeros((4, 2), np.float32), np.array([0, 1, 0, 1], np.float32))
    job = fitting.Job("no_such_module", str(tmp_path), {}, 1, 0, "average_precision", b"", {}, 50)
    found = fitting.fit(job, fitting.Part(rows, rows, rows, rows.labels))
    assert found.failed
    assert found.record["kept"] is False
    assert found.record["rows"] == 4
    assert "its fit failed" in found.record["reason"]


def test_a_column_that_a_server_has_not_and_too_many_values_are_refused(world, toy, tmp_path, trained):
    from components.slices.step import add_slices

    chosen = read_json(world / "best.json")
    for slices, said in (({"by": "failed"}, "neither a feature"), ({"by": "machine", "maximum": 2}, "3 values")):
        config, spec = toy(slices=slices)
        with pytest.raises(SeawayError, match=said):
            add_slices(config, spec, world, chosen, trained[0])


def test_rows_without_a_value_are_the_global_models_and_times_are_no_slices(tmp_path, toy):
    from components.slices.step import Table

    from .slices_world import make

    config, spec = toy(slices={"by": "machine"})
    make(tmp_path)
    for name in ("sweep_train", "valid", "train"):
        file = tmp_path / f"{name}.parquet"
        frame = pl.read_parquet(file).with_columns(
            pl.when(pl.col("machine") > 0).then(pl.col("machine")), at=pl.lit("2024-01-01").str.to_datetime()
        )
        frame.write_parquet(file)
    table = Table(config, spec, tmp_path, "machine")
    assert table.values == ["", "1", "2", "3", "4", "5"]
    assert "rows without a value" in table.too_little("", config.workload.slices)
    with pytest.raises(SeawayError, match=r"'at', a column of Datetime.*numbers or texts"):
        Table(config, spec, tmp_path, "at")


def test_words_of_values_are_the_same_whatever_their_type():
    assert [word(v) for v in (3, 3.0, np.float32(3), "3", None, 0.5)] == ["3", "3", "3", "3", "", "0.5"]


def test_a_broken_table_is_refused():
    with pytest.raises(SeawayError, match="not a routing table"):
        Slices(lambda name: json.dumps({"by": "x"}).encode(), 4)


@pytest.mark.parametrize(
    ("by", "said"), [("failed", "neither a feature nor an input.*take one of"), ("at", "the time")]
)
def test_a_column_that_cannot_route_is_refused_before_any_step_runs(toy, by, said):
    from pipelines.run import run_training

    class Nothing:
        def run(self, *_):
            raise AssertionError("a step ran")

    config, _ = toy(slices={"by": by})
    with pytest.raises(SeawayError, match=said):
        run_training(config, runner=Nothing())
    assert not (config.home / "runs").exists()
