"""What a sweep survives, each shown by ending the real process, or by a real file system that takes no more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import polars as pl
import psutil
import pytest

from components.ray.needs import Needs, size, slots_here
from components.ray.place import CheckpointError, check_writable
from components.tune import keeper
from components.tune.keeper import RESTARTS
from components.tune.step import tune
from components.tune.trial import SweepTrial, checkpoint_file, failure_file, make_training
from seaway.artifacts import read_json, write_json
from seaway.config import StepResources
from seaway.errors import SeawayError

from .conftest import make_config, workload
from .test_tune import RUN

MOODY = "import toy_model\n\n\ndef build(params, mean, std):\n" + (
    "    if params['mood'] == 'bad':\n        raise ValueError('a bad mood, as ever')\n"
    "    return toy_model.build(params, mean, std)\n"
)


class Sweeping:
    """A sweep in a thread of this process; ``driver`` is the process that drives it, and below it is Ray."""

    def __init__(self, config, spec, dataset, out):
        self.config, self.out, self.result, self.error = config, out, None, None
        self._thread = threading.Thread(target=self._run, args=(config, spec, dataset, out), daemon=True)
        self._thread.start()

    def _run(self, *arguments):
        try:
            self.result = tune(*arguments)
        except BaseException as error:
            self.error = error

    def driver(self):
        found = [p for p in psutil.Process().children() if "components.tune.driver" in " ".join(cmdline(p))]
        return found[0] if found else None

    def family(self, *names):
        """Processes below the driver whose name begins with one of ``names``."""
        driver = self.driver()
        below = driver.children(recursive=True) if driver else []
        return [p for p in below if any((cmdline(p) or [""])[0].rpartition("/")[2].startswith(n) for n in names)]

    def trials(self):
        """The processes of running trials."""
        return [p for p in self.family("ray::") if "IDLE" not in cmdline(p)[0]]

    def states(self):
        return sorted(self.config.home.glob("sweeps/*/[0-9]*.safetensors"))

    def until(self, condition, seconds=400):
        end = time.monotonic() + seconds
        while not condition():
            assert self._thread.is_alive() and time.monotonic() < end, (self.error, self.result)
            time.sleep(0.02)

    def wait(self, seconds=400):
        self._thread.join(seconds)
        assert not self._thread.is_alive()
        if self.error:
            raise self.error
        return self.result


def cmdline(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def kill(processes):
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def table(out):
    return pl.read_parquet(out / "trials.parquet").drop("seconds", "cpu_seconds", "gpu_seconds", "attempts")


def sweep_of(**changes):
    base = workload()["sweep"]
    return {**base, **changes, "space": {**base["space"], **changes.get("space", {})}}


@pytest.mark.timeout(600)  # on a busy machine a start of Ray takes a minute
def test_a_killed_trial_goes_on_and_one_that_always_fails_is_recorded(toy, toy_hooks, toy_dataset, tmp_path):
    (toy_hooks / "toy_moody.py").write_text(MOODY)
    space = {"mood": {"kind": "choice", "values": ["good", "bad"]}}
    config, spec = toy(model="toy_moody", sweep=sweep_of(trials=4, scheduler="none", retries=1, space=space))
    sweeping = Sweeping(config, spec, toy_dataset, tmp_path / "out")
    sweeping.until(lambda: sweeping.states() and sweeping.trials())
    max(sweeping.trials(), key=lambda p: sum(p.cpu_times()[:2])).kill()
    summary = sweeping.wait()

    rows = pl.read_parquet(tmp_path / "out" / "trials.parquet")
    failed = rows.filter(status="failed")
    assert 0 < summary["failed"] < 4 and failed["trial"].n_unique() == summary["failed"]
    assert set(failed["mood"]) == {"bad"} and failed["epoch"].null_count() == failed.height
    assert set(failed["error"]) == {"ValueError: a bad mood, as ever"} and set(failed["attempts"]) == {2}
    good = rows.filter(status="finished")
    assert good.group_by("trial").agg(pl.col("epoch").sort())["epoch"].to_list() == [[1, 2, 3, 4]] * (
        4 - summary["failed"]
    )
    assert sorted(good.unique("trial")["attempts"])[-1] == 2, "the killed trial was not begun again"
    assert (good["cpu_seconds"] > 0).all() and summary["epochs_trained"] == good.height

    # the killed trial has learnt what one learns that nobody kills
    from components.train.data import read_rows

    killed = good.filter(attempts=2).sort("trial", "epoch")
    at = killed.filter(trial=killed["trial"][0])
    splits = (read_rows(config, spec, toy_dataset / f"{name}.parquet") for name in ("sweep_train", "valid"))
    training = make_training(job_of(config, tmp_path), {n: at[n][0] for n in config.workload.sweep.space}, *splits)
    assert [training.epoch()["average_precision"] for _ in range(4)] == at["average_precision"].to_list()

    # who goes on takes the failures over: later suggestions rest on them
    marks = list(config.home.glob("sweeps/*/*.failed.json"))
    assert len(marks) == summary["failed"] and all("bad mood" in read_json(mark)["error"] for mark in marks)


def job_of(config, folder):
    sweep = config.workload.sweep
    return {
        "folder": str(folder),
        "model": config.workload.model,
        "root": str(config.root),
        "metric": sweep.metric,
        "max_epochs": sweep.max_epochs,
        "patience": sweep.patience,
        "seed": sweep.seed,
        "device": "cpu",
        "threads": 1,
        "remote": None,
    }


def alone(config, spec, dataset, folder):
    """A trial in this process, without Ray."""
    from components.train.data import read_rows

    rows = [read_rows(config, spec, dataset / f"{name}.parquet") for name in ("sweep_train", "valid")]
    names = ("train", "train_labels", "valid", "valid_labels")
    arrays = dict(zip(names, (a for r in rows for a in (r.features, r.labels)), strict=True))

    class Alone(SweepTrial):
        def setup(self, config_):
            super().setup(config_, job_of(config, folder), arrays)

    return Alone({"index": 3, "params": PARAMS})


PARAMS = {"learning_rate": 0.01, "width": 8, "batch_size": 128, "nap": 0}


def test_a_failure_is_told_again_after_the_epochs_before_it(toy, toy_dataset, tmp_path):
    config, spec = toy()
    trial = alone(config, spec, toy_dataset, tmp_path)
    first = [trial.train() for _ in range(2)]
    assert [r["epoch"] for r in first] == [1, 2] and not any(r["replayed"] for r in first)
    write_json(failure_file(tmp_path, 3, PARAMS), {"error": "ValueError: no"})
    again = alone(config, spec, toy_dataset, tmp_path)
    told = [again.train() for _ in range(3)]
    assert [r["replayed"] for r in told[:2]] == [True, True]
    assert told[0]["average_precision"] == first[0]["average_precision"]
    assert told[2]["error"] == "ValueError: no" and told[2]["failed"] and told[2]["done"]


@contextmanager
def small_disk(folder, options="size=64k"):
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip("this account may not mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder):
    with suppressed_full(), (folder / "ballast").open("wb", buffering=0) as stream:
        while True:
            stream.write(bytes(1024))


@contextmanager
def suppressed_full():
    try:
        yield
    except OSError as error:
        assert error.strerror == "No space left on device"


def test_a_full_disk_names_the_place_and_leaves_the_last_epoch_whole(toy, toy_dataset, tmp_path):
    config, spec = toy()
    with small_disk(tmp_path / "disk") as disk:
        trial = alone(config, spec, toy_dataset, disk)
        trial.train()
        file = checkpoint_file(disk, 3, PARAMS)
        before = file.read_bytes()
        fill(disk)
        with pytest.raises(CheckpointError, match=rf"kept in {disk}: No space left .*\(0\.0 MB of 0\.1 MB are free"):
            trial.train()
        assert file.read_bytes() == before
        assert {f.name for f in disk.iterdir()} == {file.name, "ballast"}  # nothing half written
        with pytest.raises(SeawayError, match=rf"kept in {disk}: No space left on device .* make room there"):
            check_writable(disk, None)
        (disk / "ballast").unlink()
        again = alone(config, spec, toy_dataset, disk)
        assert [again.train()["replayed"] for _ in range(2)] == [True, False]


def test_a_place_that_nobody_may_write_to_is_named_before_ray_starts(toy, toy_dataset, tmp_path):
    config, spec = toy()
    with small_disk(tmp_path / "disk", "size=64k,ro") as disk:
        began = time.monotonic()
        with pytest.raises(SeawayError, match=rf"kept in {disk}/sweeps: Read-only .* let this account write"):
            tune(config.model_copy(update={"home": disk}), spec, toy_dataset, tmp_path / "out")
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(SeawayError, match="Not a directory"):
        tune(config.model_copy(update={"home": tmp_path / "file"}), spec, toy_dataset, tmp_path / "out")
    assert time.monotonic() - began < 2


def test_a_sweep_that_ends_again_and_again_gives_up(toy, toy_dataset, tmp_path, capfd):
    config, spec = toy()
    sweeping, killed = Sweeping(config, spec, toy_dataset, tmp_path / "out"), set()
    while len(killed) < RESTARTS:
        driver = sweeping.driver()
        if driver and driver.pid not in killed:
            killed.add(driver.pid)
            driver.kill()
        time.sleep(0.01)
    with pytest.raises(SeawayError, match=r"ended 3 times without an epoch .*by signal SIGKILL"):
        sweeping.wait()
    assert capfd.readouterr().err.count("going on from the last epochs") == RESTARTS - 1


def test_a_defect_is_not_tried_again(toy, toy_dataset, tmp_path, monkeypatch):
    config, _ = toy()
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['components.tune.step'] = None\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"the sweep's process failed:\n(.|\n)*ModuleNotFoundError"):
        keeper.keep_going(config, toy_dataset, tmp_path / "out", True)


def test_what_a_trial_needs_says_how_many_run(toy):
    config, _ = toy()
    assert [size(text) for text in ("512Mi", "1G", "7")] == [512 << 20, 10**9, 7]
    with pytest.raises(SeawayError, match="'lots' is no amount"):
        size("lots")
    assert Needs(0.5, 1 << 30, 0).fits(2, 8 << 30) == 4
    assert Needs(1, 3 << 30, 0).fits(64, 8 << 30) == 2
    assert Needs(1, 1, 0.25).fits(64, 1 << 40, gpu=2) == 8

    def asking(**resources):
        sweep = config.workload.sweep
        sweep = sweep.model_copy(update={"resources": sweep.resources.model_copy(update=resources)})
        return config.model_copy(update={"workload": config.workload.model_copy(update={"sweep": sweep})})

    assert slots_here(asking(cpu="500m", memory="1Mi")) == 4
    assert slots_here(asking(cpu="2", memory="1Mi")) == 1
    with pytest.raises(SeawayError, match=r"a trial needs 3 CPU, 1Gi and 0 GPU .* gives 2 CPU"):
        slots_here(asking(cpu="3"))
    with pytest.raises(SeawayError, match="1 GPU"):
        slots_here(asking(gpu=1.0))
    assert StepResources().gpu == 0


@pytest.fixture(scope="module")
def whole(toy_hooks, toy_dataset, tmp_path_factory):
    """The table and the best of a sweep that nothing happens to."""
    folder = tmp_path_factory.mktemp("whole")
    config, spec = make_config(folder / "workload", toy_hooks, sweep=LONGER)
    tune(config, spec, toy_dataset, folder / "out")
    return table(folder / "out"), read_json(folder / "out" / "best.json")


LONGER = sweep_of(max_epochs=6, space={"nap": {"kind": "choice", "values": [0.02]}})


def check_as_if_nothing_had_happened(sweeping, whole):
    summary = sweeping.wait()
    assert table(sweeping.out).equals(whole[0]) and read_json(sweeping.out / "best.json") == whole[1]
    assert summary["failed"] == 0 and summary["ended"] == ""
    return summary


@pytest.mark.slow
@pytest.mark.timeout(900)  # on a busy machine a start of Ray takes a minute
@pytest.mark.parametrize("names", [("raylet",), ("gcs_server",), ("",)], ids=["raylet", "gcs", "all"])
def test_rays_own_servers_are_killed_and_the_sweep_goes_on(names, toy, toy_dataset, whole, tmp_path, capfd):
    config, spec = toy(sweep=LONGER)
    sweeping = Sweeping(config, spec, toy_dataset, tmp_path / "out")
    sweeping.until(lambda: len(sweeping.states()) > 2)
    family = sweeping.family(*names)
    kill(family)
    summary = check_as_if_nothing_had_happened(sweeping, whole)
    assert summary["epochs_kept"] >= 8  # two trials had ended
    assert "of Ray has ended; going on from the last epochs" in capfd.readouterr().err
    psutil.wait_procs(family, 20)
    assert not [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.slow
@pytest.mark.timeout(900)  # on a busy machine a start of Ray takes a minute
def test_a_full_disk_loses_no_finished_trial(toy, toy_dataset, whole, tmp_path):
    config, spec = toy(sweep=LONGER)
    with small_disk(tmp_path / "disk", "size=2m") as disk:
        config = config.model_copy(update={"home": disk})
        sweeping = Sweeping(config, spec, toy_dataset, tmp_path / "out")
        sweeping.until(lambda: len(sweeping.states()) > 2)
        fill(disk)
        with pytest.raises(SeawayError, match=r"No space left .* trials that have ended .* the same command goes on"):
            sweeping.wait()
        known = table(tmp_path / "out")
        over = known.filter(pl.col("status").is_in(["finished", "stopped early"]))
        assert over["trial"].n_unique() >= 1
        assert over.equals(whole[0].filter(pl.col("trial").is_in(over["trial"].unique().to_list())))
        assert not list(disk.glob("sweeps/*/.[0-9]*"))  # nothing half written
        assert not list(disk.glob("sweeps/*/*.failed.json"))  # it was not the trial's fault
        (disk / "ballast").unlink()
        again = Sweeping(config, spec, toy_dataset, tmp_path / "again")
        assert check_as_if_nothing_had_happened(again, whole)["epochs_kept"] >= over.height


@pytest.mark.slow
@pytest.mark.timeout(900)  # on a busy machine a start of Ray takes a minute
def test_who_stops_a_sweep_keeps_it_and_is_told_how_to_go_on(toy, toy_dataset, whole, tmp_path):
    config, spec = toy(sweep=LONGER)
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(config.workload_file), str(config.home), str(toy_dataset), str(out)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    end = time.monotonic() + 150
    while len(list(config.home.glob("sweeps/*/[0-9]*.safetensors"))) < 3 and time.monotonic() < end:
        time.sleep(0.05)
    family = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does
    said = process.communicate(timeout=90)[1]
    assert "KeyboardInterrupt" in said and "the sweep has stopped" in said and "The same command goes on" in said
    assert not [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    known = table(out)
    assert {"ended"} < set(known["status"]) and not (out / "best.json").exists()
    summary = check_as_if_nothing_had_happened(Sweeping(config, spec, toy_dataset, tmp_path / "again"), whole)
    assert summary["epochs_kept"] >= known.height
