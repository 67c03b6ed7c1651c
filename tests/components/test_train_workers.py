"""The train step with several workers of Ray Train, on a real Ray."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import numpy as np
import psutil
import pytest

from components.ray import jobs, kuberay
from components.ray.rayjob import GPU, QUEUE
from components.train import distributed
from components.train.cluster import with_workers
from components.train.step import train
from seaway.config import StepResources, load, project_root
from seaway.errors import SeawayError

from .jobs_world import Played, ray_head  # noqa: F401 (a fixture)

SMALL = StepResources(cpu="500m", memory="200Mi")
PARAMS = {"learning_rate": 0.01, "batch_size": 256, "width": 8}
MODEL = """
import os
import signal
import time
from pathlib import Path

import torch


def build(params, mean, std):
    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body = torch.nn.Sequential(torch.nn.Linear(len(mean), 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
            self.register_buffer("mean", torch.as_tensor(mean))
            self.register_buffer("std", torch.as_tensor(std))
            self.calls = 0

        def forward(self, rows):
            self.calls += self.training
            group = torch.distributed.is_initialized() and torch.distributed.get_rank() == 1
            marker = Path(__file__).with_name("kill")
            if group and self.calls == 15 and marker.exists():  # in the third of the epochs, six batches each
                marker.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
            end = Path(__file__).with_name("end")
            if self.training and end.exists() and self.calls > int(end.read_text()):
                raise RuntimeError("told to end")
            if self.training and Path(__file__).with_name("slow").exists():
                time.sleep(0.2)
            return self.body((rows - self.mean) / self.std).squeeze(1)

    return Plain()
"""


def config_of(config, **training):
    changed = config.training.model_copy(update=training)
    return config.model_copy(update={"training": changed})


@pytest.fixture
def plain(toy, toy_hooks, tmp_path):
    (toy_hooks / "toy_plain.py").write_text(MODEL)
    (tmp_path / "best").mkdir()
    record = {"params": PARAMS, "epochs": 4, "threshold": 0.4}
    (tmp_path / "best/best.json").write_text(json.dumps(record))
    return toy(model="toy_plain")


def weights(folder):
    from safetensors.numpy import load_file

    return load_file(folder / "weights.safetensors")


@pytest.fixture(autouse=True)
def as_others(monkeypatch):
    """Else whatever runs beside these tests starves the workers, which have the lowest priority."""
    monkeypatch.setenv("RAY_worker_niceness", "0")


def largest_difference(a, b):
    alone, together = weights(a), weights(b)
    assert alone.keys() == together.keys()
    return max(np.abs(alone[name] - together[name]).max() for name in alone)


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced_and_the_model_is_that_of_one(
    plain, toy_dataset, toy_hooks, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(distributed, "PROGRESS_S", 0.0)
    config, spec = plain
    one = train(config, spec, toy_dataset, tmp_path / "best", tmp_path / "one")
    assert "workers" not in one
    (toy_hooks / "kill").touch()
    two = config_of(config, workers=2, resources=SMALL)
    summary = train(two, spec, toy_dataset, tmp_path / "best", tmp_path / "two")
    assert not (toy_hooks / "kill").exists()
    assert (summary["workers"], summary["resumed_at_epoch"], summary["epochs"]) == (2, 2, 4)
    assert summary["loss"] == pytest.approx(one["loss"], abs=1e-6)
    assert largest_difference(tmp_path / "one", tmp_path / "two") < 1e-5
    assert not list(config.home.glob("training/*"))
    assert "gone on after epoch 2" in capsys.readouterr().err


@pytest.mark.slow
def test_workers_that_never_start_end_the_training(plain, toy_dataset, tmp_path):
    """Ray counts them apart from those that are lost later, and without a limit of ours tries for ever."""
    config, spec = plain
    over, killed = threading.Event(), []

    def killer():
        while not over.wait(0.2):
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    if "RayTrainWorker" in " ".join(process.cmdline()):
                        process.kill()
                        killed.append(process.pid)

    thread = threading.Thread(target=killer)
    thread.start()
    try:
        with pytest.raises(SeawayError, match="the workers of the training failed 2 times"):
            two = config_of(config, workers=2, resources=SMALL, retries=1)
            train(two, spec, toy_dataset, tmp_path / "best", tmp_path / "two")
    finally:
        over.set()
        thread.join()
    assert 2 <= len(killed) <= 4


@pytest.mark.slow
def test_ray_itself_killed_ends_the_step_soon_and_it_goes_on_when_run_again(plain, toy_dataset, toy_hooks, tmp_path):
    config, spec = plain
    two = config_of(config, workers=2, resources=SMALL)

    def killer():
        until = time.monotonic() + 150
        while not list(config.home.glob("training/*.safetensors")) and time.monotonic() < until:
            time.sleep(0.05)
        next(p for p in psutil.Process().children() if p.name() == "raylet").kill()
        killed.append(time.monotonic())

    killed = []
    (toy_hooks / "slow").touch()
    thread = threading.Thread(target=killer)
    thread.start()
    try:
        with pytest.raises(SeawayError, match="Ray's raylet has ended; finished epochs are kept"):
            train(two, spec, toy_dataset, tmp_path / "best", tmp_path / "two")
        assert time.monotonic() - killed[0] < 30
    finally:
        (toy_hooks / "slow").unlink()
        thread.join()
    one = train(config, spec, toy_dataset, tmp_path / "best", tmp_path / "two")
    assert one["resumed_at_epoch"] >= 1


def test_two_workers_train_the_model_of_one(plain, toy_dataset, tmp_path):
    config, spec = plain
    one = train(config, spec, toy_dataset, tmp_path / "best", tmp_path / "one")
    two = config_of(config, workers=2, resources=SMALL)
    summary = train(two, spec, toy_dataset, tmp_path / "best", tmp_path / "two")
    assert summary["workers"] == 2 and summary["loss"] == pytest.approx(one["loss"], abs=1e-6)
    assert largest_difference(tmp_path / "one", tmp_path / "two") < 1e-5


def test_no_room_for_the_workers_is_said_before_ray_starts(plain, toy_dataset, tmp_path):
    config, spec = plain
    with pytest.raises(SeawayError, match=r"training\.workers is 5"):
        train(config_of(config, workers=5), spec, toy_dataset, tmp_path / "best", tmp_path / "model")
    away = config_of(config, workers=2).model_copy(
        update={"ray": config.ray.model_copy(update={"substrate": "kuberay"})}
    )
    with pytest.raises(SeawayError, match=r"set storage\.uri"):
        train(away, spec, toy_dataset, tmp_path / "best", tmp_path / "model")


def test_the_rayjob_has_a_pod_a_worker_with_its_gpu():
    config = load(
        overrides={
            "ray": {"substrate": "kuberay", "queue": "training", "spot": True},
            "training": {"workers": 3, "resources": {"cpu": "4", "memory": "8Gi", "gpu": 1}},
        }
    )
    job = jobs.manifest(with_workers(config), "train", {"at": "s3://b/train/k/train-x", "data": "s3://b/train/k/data"})
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    pod = group["template"]["spec"]
    assert (group["replicas"], group["maxReplicas"]) == (3, 3)
    assert pod["containers"][0]["resources"]["limits"] == {"cpu": "4", "memory": "8Gi", GPU: "1"}
    assert job["metadata"]["labels"][QUEUE] == "training"
    assert job["metadata"]["labels"]["app.kubernetes.io/component"] == "train"
    assert job["spec"]["entrypoint"] == "python -m components.train.job s3://b/train/k/train-x/job.json"


RUN = """
import json, sys
from pathlib import Path
from components.train import distributed, step
from seaway.config import Config
from seaway.hooks import resolve

step.KEEP_SECONDS = distributed.PROGRESS_S = 0.0
job = json.loads(sys.argv[1])
config = Config.model_validate(job["config"])
spec = resolve(config.workload.features, config.root)
print(json.dumps(step.train(config, spec, *map(Path, job["paths"]))))
"""


@pytest.mark.slow
def test_on_a_ray_that_is_there_one_worker_and_three_go_on_where_two_stood(
    plain,
    toy_dataset,
    toy_hooks,
    tmp_path,
    ray_head,  # noqa: F811
):
    """Each on a machine of its own: only object storage is the same."""
    config, spec = plain
    record = {"params": PARAMS, "epochs": 6, "threshold": 0.4}
    (tmp_path / "best/best.json").write_text(json.dumps(record))
    train(config, spec, toy_dataset, tmp_path / "best", tmp_path / "alone")
    address, token = ray_head
    ray = config.ray.model_copy(update={"substrate": "address", "address": address})
    storage = config.storage.model_copy(update={"uri": f"file://{tmp_path}/objects"})

    def run(workers, end):
        (toy_hooks / "end").write_text(str(end))
        here = config_of(config, workers=workers, resources=SMALL, retries=0)
        here = here.model_copy(update={"ray": ray, "storage": storage, "home": tmp_path / f"home-{workers}"})
        paths = [str(p) for p in (toy_dataset, tmp_path / "best", tmp_path / f"out-{workers}")]
        job = json.dumps({"config": here.model_dump(mode="json"), "paths": paths})
        command = [sys.executable, "-c", RUN, job]
        return subprocess.run(command, env=os.environ | token, cwd=project_root(), capture_output=True, text=True)

    try:
        two = run(2, 15)
        assert "failed 1 times, at last with" in two.stderr and "told to end" in two.stderr
        assert "train: epoch " in two.stderr
        one = run(1, 9)
        assert "told to end" in one.stderr
        three = run(3, 1000)
    finally:
        (toy_hooks / "end").unlink()
    assert three.returncode == 0, three.stderr
    summary = json.loads(three.stdout.splitlines()[-1])
    assert (summary["workers"], summary["resumed_at_epoch"], summary["epochs"]) == (3, 3, 6)  # two, one and three
    assert largest_difference(tmp_path / "alone", tmp_path / "out-3") < 1e-5
    assert not list((tmp_path / "objects/training").rglob("*.*"))


@pytest.mark.slow
def test_by_a_rayjob_it_is_the_same_model_and_a_killed_job_goes_on(
    plain,
    toy_dataset,
    toy_hooks,
    tmp_path,
    ray_head,  # noqa: F811
    monkeypatch,
):
    config, spec = plain
    train(config, spec, toy_dataset, tmp_path / "best", tmp_path / "alone")
    played = Played(*ray_head, tmp_path)
    monkeypatch.setattr(kuberay, "Api", lambda context: played)
    said, failed = [], []
    monkeypatch.setattr(jobs, "Job", lambda *a: kuberay.Job(*a, on_event=said.append))
    ray = config.ray.model_copy(update={"substrate": "kuberay", "poll": "1s"})
    storage = config.storage.model_copy(update={"uri": f"file://{tmp_path}/objects"})
    away = config_of(config, workers=2, resources=SMALL).model_copy(update={"ray": ray, "storage": storage})

    def attempt():
        try:
            train(away, spec, toy_dataset, tmp_path / "best", tmp_path / "together")
        except SeawayError as error:
            failed.append(str(error))

    (toy_hooks / "slow").touch()
    thread = threading.Thread(target=attempt)
    try:
        thread.start()
        until = time.monotonic() + 150
        while not list((tmp_path / "objects/training").glob("*/*.safetensors")) and time.monotonic() < until:
            time.sleep(0.05)
        (process,) = played.processes.values()
        process.send_signal(signal.SIGKILL)
        thread.join(60)
    finally:
        (toy_hooks / "slow").unlink()
    assert failed and "the training's RayJob failed (AppFailed)" in failed[0], (tmp_path / "log-1").read_text()
    summary = train(away, spec, toy_dataset, tmp_path / "best", tmp_path / "together")
    assert played.made == 2 and played.objects == {}
    assert summary["workers"] == 2 and summary["epochs"] == 4 and summary["resumed_at_epoch"] >= 1
    assert largest_difference(tmp_path / "alone", tmp_path / "together") < 1e-5
    assert any("train: 2 workers" in line for line in said) and "the training's job has ended" in said
    assert train(away, spec, toy_dataset, tmp_path / "best", tmp_path / "again") == summary and played.made == 2
