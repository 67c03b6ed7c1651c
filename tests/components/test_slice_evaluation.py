"""The evaluation of a bundle with slices: each row by the model that would serve it, in scores and in reasons."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from components.evaluate.bundle import Bundle
from components.evaluate.step import evaluate
from seaway import scorer
from seaway.artifacts import read_json
from seaway.attribution import contributions
from seaway.errors import SeawayError
from tests.components.slice_world import BY, write_bundle, write_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("sites"))


@pytest.fixture
def found(toy, dataset, tmp_path):
    config, spec = toy()
    bundle = write_bundle(tmp_path / "bundle", spec)
    summary = evaluate(config, spec, dataset, bundle, None, tmp_path / "out")
    read = {f.stem: json.loads(f.read_text()) for f in (tmp_path / "out").glob("*.json")}
    return bundle, spec, summary, read


def score(bundle: Path, rows: np.ndarray) -> np.ndarray:
    return scorer.scores(scorer.session((bundle / "model.onnx").read_bytes(), 4), rows)


def test_a_row_is_explained_by_the_model_and_the_baseline_that_its_score_comes_from(found, dataset):
    bundle, spec, _, read = found
    frame = pl.read_parquet(dataset / "test.parquet")
    sample = read["attributions"]["sample"]
    assert {row["slice"] for row in sample} >= {"north", "7", "global"}
    for row in sample:
        at = frame.row(row["id"], named=True)
        folder = bundle / {"north": "slices/001", "7": "slices/002"}.get(at[BY], "")
        assert row["slice"] == (at[BY] if folder != bundle else "global")
        values = np.array([at[name] for name in spec.names], dtype=np.float32)
        background = np.array(read_json(folder / "model.json")["background"], dtype=np.float32)
        phi = contributions(lambda some, own=folder: score(own, some), values, background)
        told = {r["feature"]: r["contribution"] for r in row["reasons"]}
        assert told == pytest.approx({spec.names[j]: phi[j] for j in range(4) if abs(phi[j]) > 0}, abs=1e-6)
        assert row["expected"] + sum(told.values()) == pytest.approx(row["probability"], abs=1e-5)


def test_scores_are_the_routed_ones_and_what_slices_bring_is_measured(found, dataset):
    bundle, _, summary, read = found
    frame = pl.read_parquet(dataset / "test.parquet")
    record = read["slices"]
    parts = {part["slice"]: part for part in record["slices"]}
    assert set(parts) == {"north", "7", "south"}
    for name in parts:
        assert parts[name]["test"]["rows"] == frame.filter(pl.col(BY) == name).height
        assert parts[name]["test"]["positives"] == frame.filter(pl.col(BY) == name)["failed"].sum()
    assert parts["north"]["test"]["own"] > parts["north"]["test"]["global"] + 0.2
    assert parts["north"]["learnt"] == {"rows": 900, "positives": 90, "own": 0.8, "global": 0.5, "difference": None}
    assert parts["south"]["test"]["own"] is None
    assert "minimum_rows 500" in parts["south"]["reason"]
    assert record["unknown"] == {"values": 1, "rows": frame.filter(pl.col(BY) == "elsewhere").height}
    assert record["routed"] == read["metrics"]["candidate"]["average_precision"]["value"]
    assert record["routed"] - record["global"] == pytest.approx(record["difference"]["value"])
    assert record["difference"]["low"] > 0.1
    assert summary["against_global"] == record["difference"]
    served = Bundle(bundle).scored(frame).model  # the threshold too is the slice's
    assert set(zip(frame[BY].to_list(), np.round(served.threshold, 6), strict=True)) == {
        ("north", 0.3),
        ("7", 0.4),
        ("south", 0.5),
        ("elsewhere", 0.5),
    }


def test_a_champion_that_routes_by_a_column_that_is_gone_is_not_compared_and_the_verdict_says_why(
    toy, dataset, tmp_path
):
    config, spec = toy()
    candidate = write_bundle(tmp_path / "candidate", spec)
    champion = write_bundle(tmp_path / "champion", spec, by="region")
    summary = evaluate(config, spec, dataset, candidate, champion, tmp_path / "out")
    assert summary["against_champion"] is None
    assert summary["verdict"] == "pass"
    assert any("the data set lacks the column 'region', by which it routes" in reason for reason in summary["reasons"])
    assert read_json(tmp_path / "out" / "metrics.json")["champion"] is None
    twin = write_bundle(tmp_path / "twin", spec)
    same = evaluate(config, spec, dataset, candidate, twin, tmp_path / "same")
    assert same["against_champion"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_a_candidate_that_cannot_be_routed_or_read_is_an_error_in_words(toy, dataset, tmp_path):
    config, spec = toy()
    with pytest.raises(SeawayError, match="it lacks the column 'region', by which it routes"):
        evaluate(config, spec, dataset, write_bundle(tmp_path / "a", spec, by="region"), None, tmp_path / "out")
    torn = write_bundle(tmp_path / "torn", spec)
    (torn / "slices" / "001" / "model.onnx").unlink()
    with pytest.raises(SeawayError, match=r"slices/001/model.onnx cannot be read"):
        evaluate(config, spec, dataset, torn, None, tmp_path / "out")
