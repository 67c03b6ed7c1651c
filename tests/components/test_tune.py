"""The sweep on a real local Ray: once whole, once killed with SIGKILL and continued, with equal results."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time

import polars as pl
import psutil
import pytest

from components.tune.space import distributions
from components.tune.step import sweep_key, tune
from seaway.artifacts import read_json
from seaway.config import Parameter
from seaway.errors import SeawayError

RUN = """
import json, sys
from pathlib import Path
from seaway.config import load
from seaway.hooks import resolve
from components.tune.step import tune

file, home, dataset, out = map(Path, sys.argv[1:])
config = load(workload=file, overrides={"home": str(home), "compute": {"device": "cpu", "cpus": 2}})
print(json.dumps(tune(config, resolve(config.workload.features, config.root), dataset, out)))
"""


def table(out):
    return pl.read_parquet(out / "trials.parquet").drop("seconds", "cpu_seconds", "gpu_seconds")


@pytest.mark.slow
def test_a_killed_sweep_is_continued_as_if_it_had_not_been(toy, toy_dataset, tmp_path):
    config, spec = toy()
    summary = tune(config, spec, toy_dataset, tmp_path / "whole")
    check_whole(summary, tmp_path / "whole")

    home, out = tmp_path / "killed-home", tmp_path / "killed"
    driver = subprocess.Popen(
        [sys.executable, "-c", RUN, str(config.workload_file), str(home), str(toy_dataset), str(out)],
        env={**os.environ, "RAY_ADDRESS": "127.0.0.1:1"},  # a cluster in the environment is not joined
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        epochs = config.workload.sweep.max_epochs
        until(lambda: finished_trials(home, epochs) or driver.poll() is not None, 120)
        assert driver.poll() is None, driver.stderr.read().decode()
        family = psutil.Process(driver.pid).children(recursive=True)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    assert len(family) > 3  # Ray's servers, agents and workers, and the guard
    until(lambda: not any(alive(process) for process in family), 20)
    assert [process for process in family if alive(process)] == []
    assert not (out / "best.json").exists()
    ended = finished_trials(home, epochs)
    assert ended, "the kill came before any trial had ended"
    written = {file: file.stat().st_mtime_ns for file in ended}

    resumed = tune(config.model_copy(update={"home": home}), spec, toy_dataset, out)
    assert resumed["epochs_kept"] >= 4 * len(ended)
    assert resumed["epochs_kept"] + resumed["epochs_trained"] == summary["epochs_trained"]
    assert resumed["epochs_trained"] < summary["epochs_trained"]
    assert {file: file.stat().st_mtime_ns for file in ended} == written  # kept, not trained again
    assert table(out).equals(table(tmp_path / "whole"))  # same suggestions, same metrics, same stops
    assert read_json(out / "best.json") == read_json(tmp_path / "whole" / "best.json")


def check_whole(summary, out):
    best, trials = read_json(out / "best.json"), table(out)
    assert sorted(trials["trial"].unique()) == [0, 1, 2, 3]
    assert summary["trials"] == 4
    assert summary["failed"] == summary["epochs_kept"] == 0
    assert trials["average_precision"].max() == best["value"]
    at = trials.filter(trial=best["trial"]).sort("average_precision")[-1]
    assert at["epoch"].item() == best["epochs"]
    assert {name: at[name].item() for name in best["params"]} == best["params"]
    assert trials["width"].is_between(4, 16).all()
    assert 0 < best["threshold"] < 1
    assert set(trials["status"]) <= {"finished", "stopped early"}
    for (status,), part in trials.group_by("status"):
        longest = part.group_by("trial").len()["len"]
        assert (longest == (4 if status == "finished" else 2)).all()


def finished_trials(home, epochs):
    from safetensors import safe_open

    found = []
    for file in home.glob("sweeps/*/[0-9]*.safetensors"):  # not those that the kill cut short
        with safe_open(file, "np") as content:
            if len(json.loads(content.metadata()["seaway"])["history"]) == epochs:
                found.append(file)
    return found


def alive(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def until(condition, seconds):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)


def test_importing_the_step_starts_nothing():
    code = "import sys, components.tune.step; print([m for m in ('ray', 'torch', 'optuna') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_two_processes_do_not_share_a_sweep(toy, toy_dataset, tmp_path):
    config, spec = toy()
    folder = config.home / "sweeps" / sweep_key(config, spec, toy_dataset, 2)
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SeawayError, match="another process"):
            tune(config, spec, toy_dataset, tmp_path)


def test_the_key_follows_data_space_and_seed_but_not_the_number_of_trials(toy, toy_dataset, tmp_path):
    def key(dataset=toy_dataset, **sweep):
        config, spec = toy()
        changed = config.workload.model_copy(update={"sweep": config.workload.sweep.model_copy(update=sweep)})
        return sweep_key(config.model_copy(update={"workload": changed}), spec, dataset, 2)

    for name in ("sweep_train", "valid"):
        frame = pl.read_parquet(toy_dataset / f"{name}.parquet")
        frame.with_columns(size=pl.col("size") + 1).write_parquet(tmp_path / f"{name}.parquet")
    assert key() == key(trials=99)
    assert len({key(), key(seed=1), key(max_epochs=9), key(dataset=tmp_path)}) == 4


def test_space_kinds():
    made = distributions(
        {
            "a": Parameter(kind="choice", values=(1, "x")),
            "b": Parameter(kind="float", low=0, high=0.5),
            "c": Parameter(kind="log_float", low=0.001, high=1),
            "d": Parameter(kind="int", low=2, high=5),
        }
    )
    assert made["a"].choices == (1, "x")
    assert (made["b"].low, made["b"].high, made["b"].log) == (0, 0.5, False)
    assert made["c"].log
    assert (made["d"].low, made["d"].high) == (2, 5)


@pytest.mark.parametrize(
    "bad", [{"kind": "choice"}, {"kind": "float", "low": 1}, {"kind": "int", "low": 2, "high": 1},
            {"kind": "log_float", "low": 0, "high": 1}],
)  # fmt: skip
def test_a_space_without_bounds_is_named(bad):
    with pytest.raises(SeawayError, match=r"sweep\.space\.rate"):
        distributions({"rate": Parameter(**bad)})
