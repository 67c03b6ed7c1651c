"""Training: the same twice, the same after a kill, exported to what torch computes."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
import torch

from components.train import export
from components.train.data import read_rows
from components.train.loop import Rows, Training, pick_device, standardisation
from components.train.step import train
from seaway.errors import SeawayError
from seaway.features import FeatureSpec
from seaway.hooks import resolve

PARAMS = {"learning_rate": 0.01, "batch_size": 64, "width": 8}


@pytest.fixture
def rows(toy, toy_dataset):
    config, spec = toy()
    return [read_rows(config, spec, toy_dataset / f"{name}.parquet") for name in ("sweep_train", "valid")]


@pytest.fixture
def build(toy):
    return resolve(toy()[0].workload.model, toy()[0].root).build


def training(build, rows, **changes):
    torch.set_num_threads(1)
    options = {"max_epochs": 4, "device": "cpu", **changes}
    return Training(build, options.pop("params", PARAMS), rows[0], options.pop("valid", rows[1]), **options)


def finish(run):
    while not run.finished:
        run.epoch()
    return run


def results(run):
    return [{k: v for k, v in record.items() if k != "seconds"} for record in run.history]


def test_the_same_seed_gives_the_same_metrics_and_another_does_not(build, rows):
    first, again = finish(training(build, rows)), finish(training(build, rows))
    assert results(first) == results(again)
    assert results(first) != results(finish(training(build, rows, seed=1)))
    assert first.best["average_precision"] == max(r["average_precision"] for r in first.history) > 0.3


def test_continuing_from_a_checkpoint_is_the_same_as_never_stopping(build, rows, tmp_path):
    whole, file = finish(training(build, rows)), tmp_path / "state.safetensors"
    part = training(build, rows)
    part.epoch()
    part.epoch()
    part.save(file)
    rest = training(build, rows)
    assert rest.load(file)
    assert len(rest.history) == 2
    assert results(finish(rest)) == results(whole)
    assert (rest.scores(rows[1].features) == whole.scores(rows[1].features)).all()
    rest.keep_best()
    whole.keep_best()
    assert (rest.scores(rows[1].features) == whole.scores(rows[1].features)).all()


def test_a_checkpoint_of_something_else_is_not_used(build, rows, tmp_path):
    file = tmp_path / "state.safetensors"
    training(build, rows).save(file)
    assert not training(build, rows, seed=9).load(file)
    assert not training(build, rows, params={**PARAMS, "width": 9}).load(file)
    file.write_bytes(file.read_bytes()[:100])
    assert not training(build, rows).load(file)
    assert not training(build, rows).load(tmp_path / "none")


def test_stops_when_it_no_longer_gets_better_and_keeps_the_best(build, rows):
    draw = np.random.default_rng(0)
    noise = Rows(rows[0].features, draw.permutation(rows[0].labels))  # nothing to learn: soon gets worse
    run = finish(training(build, (noise, rows[1]), max_epochs=60, patience=3))
    assert len(run.history) == run.best["epoch"] + 3 < 60
    run.keep_best()
    from seaway.metrics import average_precision

    assert average_precision(run.scores(rows[1].features), rows[1].labels) == run.best["average_precision"]


def test_mixed_precision_learns_too(build, rows):
    exact, mixed = finish(training(build, rows)), finish(training(build, rows, precision="bfloat16"))
    assert results(exact) != results(mixed)
    assert mixed.best["average_precision"] == pytest.approx(exact.best["average_precision"], abs=0.03)


def test_sampled_negatives_keep_the_scores_calibrated(build, rows):
    some = finish(training(build, rows, params={**PARAMS, "negative_share": 0.3}, max_epochs=12, patience=12))
    assert some.scores(rows[1].features).mean() == pytest.approx(rows[1].labels.mean(), rel=0.25)
    number = len(some._rows_of_epoch())
    positives = rows[0].labels.sum()
    assert number == positives + round(0.3 * (len(rows[0].labels) - positives))


def test_a_constant_column_is_not_divided_by_nothing():
    values = np.array([[1e6, 1.0, 0.1], [1e6, 3.0, 0.1], [1e6, 5.0, 0.1]], dtype=np.float32)
    mean, std = standardisation(values)
    assert std.tolist() == pytest.approx([1.0, np.std([1, 3, 5]), 1.0])
    assert mean.tolist() == pytest.approx([1e6, 3.0, 0.1])


def test_a_loss_that_is_not_a_number_is_an_error_and_one_class_too(build, rows):
    broken = Rows(np.full_like(rows[0].features, np.nan), rows[0].labels)
    with pytest.raises(FloatingPointError, match="learning rate"):
        training(build, (broken, rows[1])).epoch()
    with pytest.raises(SeawayError, match="one class"):
        training(build, (Rows(rows[0].features, np.zeros_like(rows[0].labels)), rows[1]))
    with pytest.raises(SeawayError, match="not one of"):
        training(build, rows, metric="luck")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_that_is_missing_is_said():
    assert pick_device("auto") == "cpu"
    with pytest.raises(SeawayError, match="no CUDA"):
        pick_device("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_cuda_with_mixed_precision_and_resume(build, rows, tmp_path):
    run = training(build, rows, device="cuda")
    run.epoch()
    run.save(tmp_path / "state.safetensors")
    rest = training(build, rows, device="cuda")
    assert rest.load(tmp_path / "state.safetensors")
    assert finish(rest).best["average_precision"] > 0.3


def best(folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "best.json").write_text(json.dumps({"params": PARAMS, "epochs": 3, "threshold": 0.4}))
    return folder


@pytest.fixture
def bundle(toy, toy_dataset, tmp_path):
    config, spec = toy()
    summary = train(config, spec, toy_dataset, best(tmp_path / "best"), tmp_path / "model")
    return config, spec, summary, tmp_path / "model"


def test_the_bundle_is_complete_and_so_is_the_baseline(bundle, toy_dataset):
    config, spec, summary, out = bundle
    features = read_rows(config, spec, toy_dataset / "test.parquet").features
    for folder in (out, out / "baseline"):
        record = json.loads((folder / "model.json").read_text())
        assert FeatureSpec.from_record(record["features"]) == spec
        assert record["feature_hash"] == spec.hash
        assert record["reasons"]["size"] == "the size"
        assert np.shape(record["background"]) == (32, 4)
        assert 0 < record["threshold"] < 1
        assert 0 <= record["onnx_max_difference"] <= 1e-5
        assert (folder / "weights.safetensors").exists()
        running = export.session(folder / "model.onnx")
        assert [(i.name, i.type) for i in running.get_inputs()] == [("features", "tensor(float)")]
        assert [(o.name, o.type) for o in running.get_outputs()] == [("probability", "tensor(float)")]
        scores = export.onnx_scores(running, features)
        assert scores.shape == (1500,)
        assert ((scores > 0) & (scores < 1)).all()
        alone = np.concatenate([export.onnx_scores(running, features[i : i + 1]) for i in range(100)])
        assert np.abs(alone - scores[:100]).max() <= 1e-6
    assert summary["threshold"] == 0.4
    assert summary["epochs"] == 3
    assert not list(config.home.rglob("*.safetensors"))  # the checkpoint has done its work


def test_the_baseline_is_scikit_learns(bundle, toy_dataset):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    config, spec, _, out = bundle
    fit = read_rows(config, spec, toy_dataset / "train.parquet")
    test = read_rows(config, spec, toy_dataset / "test.parquet")
    plain = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(fit.features, fit.labels)
    scores = export.onnx_scores(export.session(out / "baseline" / "model.onnx"), test.features)
    assert np.abs(scores - plain.predict_proba(test.features)[:, 1]).max() < 1e-4


def test_a_killed_training_goes_on(toy, toy_dataset, tmp_path, monkeypatch):
    config, spec = toy()
    whole = train(config, spec, toy_dataset, best(tmp_path / "best"), tmp_path / "whole")
    epoch = Training.epoch

    def killed(self):
        if len(self.history) == 2:
            raise KeyboardInterrupt
        return epoch(self)

    monkeypatch.setattr(Training, "epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        train(config, spec, toy_dataset, tmp_path / "best", tmp_path / "model")
    monkeypatch.setattr(Training, "epoch", epoch)
    summary = train(config, spec, toy_dataset, tmp_path / "best", tmp_path / "model")
    assert (whole["resumed_at_epoch"], summary["resumed_at_epoch"]) == (None, 2)
    assert summary["loss"] == whole["loss"]
    assert (tmp_path / "model/weights.safetensors").read_bytes() == (
        tmp_path / "whole/weights.safetensors"
    ).read_bytes()


def test_an_export_that_scores_otherwise_is_refused(build, rows, tmp_path):
    run = training(build, rows)
    export.export(run.model, 4, tmp_path / "model.onnx")
    assert export.check(run.model, tmp_path / "model.onnx", rows[0].features) <= 1e-5
    with torch.no_grad():
        run.model.body[3].bias += 0.01
    with pytest.raises(SeawayError, match="differs from torch"):
        export.check(run.model, tmp_path / "model.onnx", rows[0].features)


def test_missing_files_columns_and_values_are_named(toy, toy_dataset, tmp_path):
    config, spec = toy()
    with pytest.raises(SeawayError, match="run the tune step first"):
        train(config, spec, toy_dataset, tmp_path, tmp_path / "model")
    (tmp_path / "best.json").write_text('{"params": {}}')
    with pytest.raises(SeawayError, match="epochs, threshold"):
        train(config, spec, toy_dataset, tmp_path, tmp_path / "model")
    frame = pl.read_parquet(toy_dataset / "train.parquet")
    for changed, words in (
        (frame.drop("speed"), "speed"),
        (frame.with_columns(speed=pl.lit(float("nan"))), "not a finite number in speed"),
        (frame.with_columns(failed=pl.lit(2)), "other than 0 and 1"),
        (frame.head(0), "no rows"),
    ):
        changed.write_parquet(tmp_path / "x.parquet")
        with pytest.raises(SeawayError, match=words):
            read_rows(config, spec, tmp_path / "x.parquet")
