"""A sweep is recorded in MLflow, found again by features, space and metric, and its best points come first."""

from __future__ import annotations

import json

import polars as pl
import pytest

from components.tune import warm
from components.tune.order import deciding
from components.tune.searching import searcher
from components.tune.space import distributions, middle
from seaway import progress
from seaway.artifacts import read_json
from seaway.config import Parameter
from seaway.registry_sweeps import LONGEST, POINTS, Sweeps, fitting

SUMMARY = {
    "stopped": 1,
    "failed": 1,
    "epochs_trained": 5,
    "cpu_seconds": 9,
    "gpu_seconds": 0,
    "seconds": 7,
    "trials": 4,
}


def changed(config, **sweep):
    workload = config.workload.model_copy(update={"sweep": config.workload.sweep.model_copy(update=sweep)})
    return config.model_copy(update={"workload": workload})


def finished(folder, rates, metric="average_precision"):
    """trials.parquet of a sweep: {rate: values by epoch}; the first trial is one that failed."""
    rest = {"width": 4, "batch_size": 64, "nap": 0.01}
    rows = [{"trial": 0, "epoch": None, metric: None, "learning_rate": 0.5, **rest, "status": "failed"}]
    for trial, (rate, values) in enumerate(rates.items(), 1):
        for epoch, value in enumerate(values, 1):
            row = {"trial": trial, "epoch": epoch, metric: value, "learning_rate": rate, **rest}
            rows.append({**row, "status": "finished"})
    folder.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows, infer_schema_length=None).write_parquet(folder / "trials.parquet")
    return folder


def told(key, value, rate):
    return {**SUMMARY, "key": key, "value": value, "params": {"learning_rate": rate}}


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(progress, "say", lambda text, *_, **__: lines.append(text))
    return lines


@pytest.fixture
def config_and_spec(toy):
    config, spec = toy()
    return changed(config, warm_start=3), spec


def rates(points):
    return [point["learning_rate"] for point in points]


def test_what_a_sweep_recorded_is_where_the_next_one_begins(config_and_spec, tmp_path, said):
    config, spec = config_and_spec
    assert warm.look_up(config, spec, "new") == []  # there is no store yet
    assert said == []
    one = finished(tmp_path / "one", {0.001: [0.2, 0.5, 0.4], 0.01: [0.6], 0.02: [0.1]})
    two = finished(tmp_path / "two", {0.002: [0.55], 0.01: [0.3, 0.7]})
    warm.remember(config, spec, one, told("one", 0.6, 0.01))
    warm.remember(config, spec, two, told("two", 0.7, 0.01))
    warm.remember(config, spec, two, told("two", 0.7, 0.01))  # the same sweep again
    assert said == []
    assert rates(warm.look_up(config, spec, "new")) == [0.01, 0.002, 0.001]  # distinct, best epochs, best first
    assert rates(warm.look_up(config, spec, "two")) == [0.01, 0.001, 0.02]  # a sweep is no earlier one of its own
    assert rates(warm.look_up(changed(config, warm_start=1), spec, "new")) == [0.01]
    assert warm.look_up(changed(config, warm_start=0), spec, "new") == []
    assert all(set(p) == set(config.workload.sweep.space) for p in warm.look_up(config, spec, "new"))
    not_found(config, spec)
    by_client(config, spec)


def not_found(config, spec):
    """Another space, metric or set of features is another search; another seed or more trials are not."""
    sweep = config.workload.sweep
    wider = {**sweep.space, "width": Parameter(kind="int", low=4, high=99)}
    for other in (changed(config, space=wider), changed(config, metric="auc_roc")):
        assert warm.look_up(other, spec, "new") == []
    other = type(spec)(**{**spec.__dict__, "version": "toy_v2"})
    assert warm.look_up(config, other, "new") == []
    assert rates(warm.look_up(changed(config, seed=7, trials=99, max_epochs=2), spec, "new"))[0] == 0.01


def by_client(config, spec):
    """What the reader of the file finds, MLflow's own client finds; and people see there what they look for."""
    from mlflow import MlflowClient

    sweeps, searched = Sweeps.of(config), warm.searched(config, spec)
    read = sweeps._tags_in_file(sweeps._file, searched)
    sweeps._tags_in_file = unreadable
    assert [t[POINTS] for t in sweeps._tags(searched)] == [t[POINTS] for t in read]
    assert len(read) == 2  # a sweep that was recorded twice is one run
    client = MlflowClient(tracking_uri=sweeps._uri)
    runs = client.search_runs([client.get_experiment_by_name("toy-sweeps").experiment_id])
    by_name = {run.info.run_name: run for run in runs}
    assert by_name["sweep-one"].data.params == {"learning_rate": "0.01"}
    assert by_name["sweep-one"].data.metrics["value"] == 0.6
    history = client.get_metric_history(by_name["sweep-one"].info.run_id, "trial")
    assert [m.value for m in sorted(history, key=lambda m: m.step)] == [0.5, 0.6, 0.1]


def unreadable(*_):
    import sqlite3

    raise sqlite3.OperationalError("no such table: runs")


def test_where_lower_is_better_the_lowest_come_first(config_and_spec):
    points = [{"value": v, "params": {"x": v}} for v in (0.3, 0.1, 0.2, 0.1)]
    assert [p["value"] for p in warm.best_first(points, "brier", 2)] == [0.1, 0.2]
    assert [p["value"] for p in warm.best_first(points, "average_precision", 2)] == [0.3, 0.2]


def test_a_store_that_does_not_answer_is_told_and_no_more(config_and_spec, tmp_path, said):
    config, spec = config_and_spec
    gone = config.model_copy(update={"tracking_uri": "http://127.0.0.1:9"})
    assert warm.look_up(gone, spec, "new") == []
    warm.remember(gone, spec, finished(tmp_path, {0.01: [0.6]}), told("one", 0.6, 0.01))
    assert len(said) == 2
    assert all("http://127.0.0.1:9" in line for line in said)


def test_points_are_looked_up_once(tmp_path):
    asked = []

    def find(points):
        return lambda: asked.append(1) or points

    tmp_path.joinpath("sweep").mkdir()
    assert warm.first_points(tmp_path / "sweep", None, find([{"x": 1}])) == [{"x": 1}]
    assert warm.first_points(tmp_path / "sweep", None, find([{"x": 2}])) == [{"x": 1}]  # resumed, the store has more
    assert asked == [1]
    assert read_json(tmp_path / "sweep" / "warm.json") == {"points": [{"x": 1}]}


def test_points_are_the_first_trials_and_the_rest_stays_in_order(config_and_spec):
    config, _ = config_and_spec
    sweep = config.workload.sweep
    space, points = distributions(sweep.space), [
        {"learning_rate": r, "width": 5, "batch_size": 128, "nap": 0.01} for r in (0.0123, 0.003)
    ]  # fmt: skip

    def suggested(first):
        search = searcher(sweep, space, deciding(sweep, 8, space), first)
        return [search.suggest(str(i))["params"] for i in range(4)]

    warm_ones, cold = suggested(points), suggested([])
    assert warm_ones[:2] == points
    assert warm_ones[2:] == cold[1:3]  # which begins with the middle of the space
    assert cold[0] == middle(space)
    assert suggested(points) == warm_ones


def test_a_tag_takes_as_many_points_as_fit():
    points = [{"value": 0.5, "params": {"x": "y" * 400, "n": n}} for n in range(40)]
    text = fitting(points)
    assert LONGEST - 500 < len(text) <= LONGEST
    assert json.loads(text) == points[: len(json.loads(text))]
