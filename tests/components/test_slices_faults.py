"""Slices that outlive what fits them: the step killed with kill -9, a worker that dies, a Ray that is there already."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from components.slices.fit import Fitted
from components.slices.kept import Kept
from components.slices.step import key_of
from seaway.artifacts import read_json
from seaway.config import project_root

from . import test_tune_address
from .slices_world import CHOSEN, DEADLY, MACHINES, RUN, SLICES, files, make, run

address = test_tune_address.address  # a fixture


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make(tmp_path_factory.mktemp("machines"))


def start(here: Path, hooks: Path, data: Path, out: Path, cpus: int, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-c", RUN, *map(str, (here, hooks, data, out, cpus, *more))]
    path = os.pathsep.join([str(project_root()), str(Path(__file__).parent)])
    return subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def ended(command: subprocess.Popen, here: Path) -> dict:
    told = command.communicate(timeout=300)[0]
    assert command.returncode == 0, told
    return read_json(here / "summary.json")


def done_here(here: Path, *arguments) -> dict:
    """``start`` and ``ended`` in this process, which has imported what takes seconds."""
    run(*map(str, (here, *arguments)))
    return read_json(here / "summary.json")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("cpus", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_after_kill_9_only_the_unfinished_slices_are_fitted(data, tmp_path, toy_hooks, cpus):
    here, out = tmp_path / "here", tmp_path / "out"
    first = start(here, toy_hooks, data, tmp_path / "half", cpus)
    while len(list(here.glob("home/slices/*/*/record.json"))) < 2:
        assert first.poll() is None, first.communicate()
        time.sleep(0.01)
    below = psutil.Process(first.pid).children(recursive=True)
    first.kill()
    first.communicate()
    _, left = psutil.wait_procs(below, timeout=30)
    assert not [p for p in left if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert not (tmp_path / "half" / "slices.json").exists()
    done = list(here.glob("home/slices/*/*/record.json"))
    assert 2 <= len(done) < MACHINES

    assert done_here(tmp_path / "other", toy_hooks, data, tmp_path / "undisturbed", cpus)["resumed"] == 0
    assert done_here(here, toy_hooks, data, out, cpus)["resumed"] == len(done)
    assert files(out) == files(tmp_path / "undisturbed")
    assert set(read_json(out / "slices.json")["kept"])
    assert not list(here.glob("home/slices/*"))  # the bundle has them now


def test_a_failed_slice_is_tried_again_and_a_half_written_one_too(tmp_path):
    kept = Kept(tmp_path)
    kept.add("000", Fitted({"kept": False, "reason": "worse"}))
    kept.add("001", Fitted({"kept": False, "reason": "its fit failed: x"}, failed=True))
    kept.add("002", Fitted({"kept": True, "threshold": 0.5}, b"model", {"a": 1}))
    (tmp_path / "003").mkdir()
    (tmp_path / "003" / "model.onnx").write_bytes(b"mod")
    assert set(kept.records(["000", "001", "002", "003"])) == {"000", "002"}
    kept.put("002", tmp_path / "out")
    assert files(tmp_path / "out") == {"model.json": b'{\n  "a": 1\n}\n', "model.onnx": b"model"}


def test_finished_slices_of_other_rows_parameters_or_rules_are_not_taken(data, tmp_path, toy):
    from components.slices.fit import Job

    config, spec = toy(slices=SLICES)

    def key(config=config, data=data, **changes):
        settings = {"params": CHOSEN["params"], "epochs": 3, "record": {"threshold": 0.5}, **changes}
        job = Job("toy_model", str(config.root), seed=0, metric="brier", template=b"", resamples=9, **settings)
        return key_of(config, spec, data, job)

    same = key()
    assert same == key(record={"threshold": 0.5, "metrics": {"train_brier": 0.1}})
    stricter, _ = toy(slices={**SLICES, "minimum_rows": 101})
    fewer = tmp_path / "fewer"
    fewer.mkdir()
    others = [
        key(stricter),
        key(epochs=4),
        key(params={"width": 4}),
        key(data=make(fewer, deadly=1)),
        key(record={"threshold": 0.6}),
    ]
    assert len({same, *others}) == 6


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_worker_that_dies_takes_only_its_slice_along(tmp_path, toy_hooks):
    (toy_hooks / "deadly_model.py").write_text(DEADLY)
    folder = tmp_path / "data"
    folder.mkdir()
    here, out = tmp_path / "here", tmp_path / "out"
    found = ended(start(here, toy_hooks, make(folder, deadly=3), out, 2, "deadly_model"), here)
    table = read_json(out / "slices.json")
    assert found["failed"] == 1
    assert table["left"]["3"]["reason"].startswith("its fit failed: its worker was killed three times")
    assert table["left"]["3"]["rows"] == 400
    assert "0" in table["kept"]
    assert all("failed" not in record["reason"] for value, record in table["left"].items() if value != "3")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_on_a_ray_that_is_there_no_second_one_is_started(data, tmp_path, toy_hooks, address):
    where, folder = address
    ended(start(tmp_path / "alone", toy_hooks, data, tmp_path / "undisturbed", 1), tmp_path / "alone")
    with test_tune_address.ray_head(where.rpartition(":")[2], folder):
        for how in ("named", "given", "inside"):
            here, out = tmp_path / how, tmp_path / f"{how}-out"
            found = ended(start(here, toy_hooks, data, out, 2, "toy_model", how, where), here)
            assert found["failed"] == 0
            assert found["start_seconds"] > 0  # it was not done by the process alone
            assert files(out) == files(tmp_path / "undisturbed")
