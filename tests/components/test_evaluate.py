"""The evaluation on real bundles: same rows for all, segments, curves, reasons, champions of other kinds."""

from __future__ import annotations

import json
import shutil

import numpy as np
import polars as pl
import pytest

from components.evaluate.measure import Model, compare, curves
from components.evaluate.segments import groups
from components.evaluate.step import evaluate
from components.train.step import train
from seaway.config import Segment
from seaway.errors import SeawayError
from seaway.metrics import Bootstrap, average_precision


@pytest.fixture(scope="module")
def bundle(request, toy_dataset, tmp_path_factory):
    """A trained bundle, made once; the configuration is the toy's."""
    made = {}

    def make(config, spec):
        if "out" not in made:
            folder = tmp_path_factory.mktemp("bundle")
            params = {"learning_rate": 0.02, "batch_size": 64, "width": 16}
            (folder / "best.json").write_text(json.dumps({"params": params, "epochs": 8, "threshold": 0.4}))
            train(config, spec, toy_dataset, folder, folder / "model")
            made["out"] = folder / "model"
        return made["out"]

    return make


def read(out, name):
    return json.loads((out / f"{name}.json").read_text())


def test_without_a_champion(toy, toy_dataset, bundle, tmp_path):
    config, spec = toy()
    summary = evaluate(config, spec, toy_dataset, bundle(config, spec), None, tmp_path)
    assert summary["verdict"] == "pass"
    found = read(tmp_path, "metrics")
    assert found["champion"] is None
    for who in ("candidate", "baseline"):
        assert {"auc_roc", "average_precision", "precision", "recall", "f1", "precision_at_10"} <= set(found[who])
        for name in ("auc_roc", "average_precision", "brier", "recall"):
            record = found[who][name]
            assert record["low"] < record["value"] < record["high"], name
    # a third of the signal is not linear: the network must see it, the baseline cannot
    assert found["candidate"]["average_precision"]["value"] > found["baseline"]["average_precision"]["value"] + 0.02
    drawn = read(tmp_path, "curves")
    for who in ("candidate", "baseline"):
        roc = drawn[who]["roc"]
        assert (roc["fpr"][0], roc["tpr"][0], roc["fpr"][-1], roc["tpr"][-1]) == (0, 0, 1, 1)
        assert len(roc["fpr"]) <= 201
        assert np.trapezoid(roc["tpr"], roc["fpr"]) == pytest.approx(found[who]["auc_roc"]["value"], abs=0.005)
        assert drawn[who]["pr"]["recall"][-1] == 1
        assert sum(drawn[who]["calibration"]["rows"]) == 1500


def test_segments_cover_all_rows_and_need_enough_of_them(toy, toy_dataset, bundle, tmp_path):
    config, spec = toy()
    model = bundle(config, spec)
    evaluate(config, spec, toy_dataset, model, model / "baseline", tmp_path)
    parts = read(tmp_path, "segments")
    for segment in ("size", "hour"):
        assert sum(p["rows"] for p in parts if p["segment"] == segment) == 1500
    assert {p["group"] for p in parts if p["segment"] == "size"} == {"below 0", "0 and above"}
    judged = [p for p in parts if p["enough"]]
    assert judged
    for part in judged:
        assert part["difference"] == pytest.approx(part["candidate"] - part["champion"])
        assert part["low"] <= part["difference"] <= part["high"]
    strict = config.workload.gates.model_copy(update={"min_segment_rows": 5000})
    workload = config.workload.model_copy(update={"gates": strict})
    strict_config = config.model_copy(update={"workload": workload})
    evaluate(strict_config, spec, toy_dataset, model, model / "baseline", tmp_path / "strict")
    assert not any(p["enough"] for p in read(tmp_path / "strict", "segments"))


def test_the_champion_itself_is_no_different(toy, toy_dataset, bundle, tmp_path):
    config, spec = toy()
    model = bundle(config, spec)
    summary = evaluate(config, spec, toy_dataset, model, model, tmp_path)
    assert summary["verdict"] == "pass"
    assert summary["against_champion"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_worse_than_the_champion_fails_and_says_why(toy, toy_dataset, bundle, tmp_path):
    config, spec = toy()
    model = bundle(config, spec)
    worse = tmp_path / "worse"
    shutil.copytree(model / "baseline", worse)
    shutil.copytree(model / "baseline", worse / "baseline")
    summary = evaluate(config, spec, toy_dataset, worse, model, tmp_path / "out")
    assert summary["verdict"] in ("fail", "not enough data")
    assert "differs from the champion's" in summary["reasons"][0]
    assert read(tmp_path / "out", "verdict")["verdict"] == summary["verdict"]


def test_a_champion_with_other_features_is_scored_where_they_exist_and_else_said(toy, toy_dataset, bundle, tmp_path):
    config, spec = toy()
    model = bundle(config, spec)
    other = tmp_path / "champion"
    shutil.copytree(model, other)
    record = read(other, "model")
    for request in record["features"]["requests"]:
        if request["name"] == "speed":
            request["name"] = "velocity"
    (other / "model.json").write_text(json.dumps(record))
    summary = evaluate(config, spec, toy_dataset, model, other, tmp_path / "without")
    assert summary["verdict"] == "pass"
    assert summary["against_champion"] is None
    assert "lacks its features velocity" in summary["reasons"][0]
    shutil.copytree(toy_dataset, tmp_path / "dataset")
    file = tmp_path / "dataset" / "test.parquet"
    pl.read_parquet(file).with_columns(velocity=pl.col("speed")).write_parquet(file)
    summary = evaluate(config, spec, tmp_path / "dataset", model, other, tmp_path / "with")
    assert summary["against_champion"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_attributions_name_what_matters_in_words(toy, toy_dataset, bundle, tmp_path):
    config, spec = toy()
    evaluate(config, spec, toy_dataset, bundle(config, spec), None, tmp_path)
    explained = read(tmp_path, "attributions")
    means = explained["mean_abs"]
    assert max(means, key=means.get) == "size"
    assert means["still"] < 1e-6
    top = explained["sample"][0]
    assert top["probability"] == max(row["probability"] for row in explained["sample"])
    assert top["reasons"][0]["text"].startswith(("the size (", "the speed ("))
    assert explained["reasons"]["hour"] == "the hour"


def test_too_few_positives(toy, toy_dataset, bundle, tmp_path):
    config, spec = toy()
    folder = tmp_path / "dataset"
    shutil.copytree(toy_dataset, folder)
    frame = pl.read_parquet(folder / "test.parquet")
    pl.concat([frame.filter(failed=0), frame.filter(failed=1).head(20)]).write_parquet(folder / "test.parquet")
    summary = evaluate(config, spec, folder, bundle(config, spec), None, tmp_path / "out")
    assert summary["verdict"] == "not enough data"


def test_mistakes_are_named(toy, toy_dataset, bundle, tmp_path):
    config, spec = toy()
    model = bundle(config, spec)
    with pytest.raises(SeawayError, match="not a model bundle"):
        evaluate(config, spec, toy_dataset, model, tmp_path, tmp_path / "out")
    for changes, words in (
        ({"segments": [{"name": "x", "column": "absent"}]}, "names column 'absent'"),
        ({"top_k": {"entity": "ship", "k": 3}}, "one of machine"),
        ({"gates": {"metric": "luck"}}, "not one of"),
    ):
        config, spec = toy(**changes)
        with pytest.raises(SeawayError, match=words):
            evaluate(config, spec, toy_dataset, model, None, tmp_path / "out")


def test_groups_by_cuts_hours_and_values():
    frame = pl.DataFrame({"v": [1.0, 2.0, 3.0, 9.0], "t": pl.Series([0, 7, 13, 20]) * 3_600_000_000, "c": list("abba")})
    frame = frame.with_columns(pl.col("t").cast(pl.Datetime("us")))

    def named(**segment):
        return {k: np.flatnonzero(m).tolist() for k, m in groups(Segment(name="s", **segment), frame).items()}

    assert named(column="v", cuts=(2, 9)) == {"below 2": [0], "2 to 9": [1, 2], "9 and above": [3]}
    assert named(column="t", hours=(6, 12, 18)) == {"6 to 12 h": [1], "12 to 18 h": [2], "18 to 6 h": [0, 3]}
    assert named(column="c") == {"a": [0, 3], "b": [1, 2]}


def test_comparison_is_paired():
    draw = np.random.default_rng(0)
    labels = (draw.random(2000) < 0.2).astype(float)
    base = draw.random(2000) + 0.5 * labels
    near = base + draw.normal(size=2000) * 0.02
    mine, theirs, gap = compare("average_precision", near, base, labels, Bootstrap(2000, 100))
    assert mine - theirs == pytest.approx(gap.value)
    paired = gap.high - gap.low
    alone = np.concatenate([average_precision(base, labels, w) for w, _ in Bootstrap(2000, 100).chunks()])
    assert paired < 0.5 * (np.quantile(alone, 0.975) - np.quantile(alone, 0.025))
    sign = compare("brier", np.full(2000, 0.2), np.full(2000, 0.9), labels, Bootstrap(2000, 20))[2]
    assert sign.low > 0  # a lower Brier score is better, so the difference is positive


def test_curves_of_perfect_and_constant_scores():
    labels = np.array([0, 0, 1, 1], dtype=np.float32)
    perfect = curves(Model(labels, 0.5), labels)
    assert (perfect["roc"]["fpr"], perfect["roc"]["tpr"]) == ([0.0, 0.0, 1.0], [0.0, 1.0, 1.0])
    constant = curves(Model(np.full(4, 0.3), 0.5), labels)
    assert constant["pr"] == {"recall": [1.0], "precision": [0.5]}
