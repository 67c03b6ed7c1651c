"""The sweep as a RayJob runs it, on a real Ray that is there already and with object storage between both sides.

The Kubernetes API is played: a RayJob's entry point runs here as a process. tests/contract/test_kuberay.py has the
real operator, whose pods run nothing.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time

import polars as pl
import pytest

from components.ray import jobs, kuberay
from components.tune import cluster, step
from components.tune.progress import Progress
from components.tune.snapshot import Sight
from components.tune.step import tune
from seaway.artifacts import read_json
from seaway.errors import NotFound, SeawayError
from seaway.storage import Storage

from .jobs_world import Played, ray_head  # noqa: F401 (a fixture)


@pytest.fixture
def away(toy, tmp_path, monkeypatch):
    """Makes (config, spec, played) for a sweep by RayJob, on no Ray yet."""
    played = Played("127.0.0.1:1", {}, tmp_path)
    monkeypatch.setattr(kuberay, "Api", lambda context: played)

    def make(**changes):
        config, spec = toy(**changes)
        ray = config.ray.model_copy(update={"substrate": "kuberay", "poll": "1s"})
        storage = config.storage.model_copy(update={"uri": f"file://{tmp_path}/objects"})
        return config.model_copy(update={"ray": ray, "storage": storage}), spec, played

    yield make
    for process in played.processes.values():
        process.kill()


@pytest.fixture
def on_ray(away, ray_head):  # noqa: F811
    """The same, on a Ray that is there."""

    def make(**changes):
        config, spec, played = away(**changes)
        played.address = ray_head[0]
        played.environment |= ray_head[1]
        return config, spec, played

    return make


def table(out):
    return pl.read_parquet(out / "trials.parquet").drop("seconds", "cpu_seconds", "gpu_seconds")


@pytest.mark.infra
def test_a_rayjob_gives_what_the_same_sweep_gives_here(on_ray, toy, toy_dataset, tmp_path, monkeypatch):
    config, spec, played = on_ray()
    said = []
    monkeypatch.setattr(jobs, "Job", lambda *a: kuberay.Job(*a, on_event=lambda text, **_: said.append(text)))
    summary = tune(config, spec, toy_dataset, tmp_path / "out")
    assert summary["trials"] == 4 and summary["failed"] == 0, (tmp_path / "log-1").read_text()
    assert played.objects == {} and any(line.startswith("sweep: ") for line in said), said
    local, _ = toy()
    tune(local.model_copy(update={"home": tmp_path / "here"}), spec, toy_dataset, tmp_path / "whole")
    assert table(tmp_path / "out").equals(table(tmp_path / "whole"))
    assert read_json(tmp_path / "out" / "best.json") == read_json(tmp_path / "whole" / "best.json")

    (tmp_path / "again").mkdir()
    assert tune(config, spec, toy_dataset, tmp_path / "again") == summary and played.made == 1  # the result was there

    # more trials go on from what the earlier ones have left in object storage, on a machine that has nothing
    more = config.workload.model_copy(update={"sweep": config.workload.sweep.model_copy(update={"trials": 5})})
    longer = tune(config.model_copy(update={"workload": more}), spec, toy_dataset, tmp_path / "more")
    assert longer["trials"] == 5 and longer["epochs_kept"] == summary["epochs_trained"]
    assert table(tmp_path / "more").filter(pl.col("trial") < 4).equals(table(tmp_path / "out"))


def test_a_job_that_cannot_says_why(away, toy_dataset, tmp_path):
    config, spec, played = away()
    broken = config.workload.model_copy(update={"sweep": config.workload.sweep.model_copy(update={"metric": "luck"})})
    with pytest.raises(SeawayError, match=r"AppFailed\): sweep\.metric 'luck' is not one of"):
        tune(config.model_copy(update={"workload": broken}), spec, toy_dataset, tmp_path / "out")
    assert played.objects == {}


@pytest.mark.infra
def test_a_killed_job_goes_on_from_its_checkpoints(on_ray, toy_dataset, tmp_path):
    config, spec, played = on_ray()
    failed = []

    def attempt():
        try:
            tune(config, spec, toy_dataset, tmp_path / "out")
        except SeawayError as error:
            failed.append(str(error))

    thread = threading.Thread(target=attempt)
    thread.start()
    until = time.monotonic() + 120
    while not list((tmp_path / "objects").glob("sweeps/*/checkpoints/*.safetensors")) and time.monotonic() < until:
        time.sleep(0.02)
    (process,) = played.processes.values()
    process.send_signal(signal.SIGKILL)
    thread.join(120)
    assert "AppFailed" in failed[0] and "go" in failed[0]
    summary = tune(config, spec, toy_dataset, tmp_path / "out")
    assert summary["epochs_kept"] > 0 and summary["failed"] == 0


def test_a_job_that_nobody_waits_for_ends_itself(tmp_path):
    code = (
        "import sys, time; from components.ray import jobs; from seaway.storage import Storage\n"
        "jobs.watch(Storage(sys.argv[1]), 1.0, 0.2); time.sleep(60)"
    )
    store = Storage(f"file://{tmp_path}/job")
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", code, store.uri], stderr=subprocess.PIPE)
    for n in range(15):  # three seconds of life, then none
        store.write(store.join("watched"), str(n).encode())
        time.sleep(0.2)
    assert process.poll() is None
    assert process.wait(20) == 1 and time.monotonic() - began < 20
    assert b"nobody has waited" in store.read(store.join("error"))


def test_the_step_shows_that_it_waits(away, toy_dataset, tmp_path, monkeypatch):
    config, _, _ = away()
    monkeypatch.setattr(kuberay, "BEAT_S", 0.0)
    store = Storage.of(config)
    sweep = kuberay.Job(config, store, store.join("x"), jobs.manifest(config, "sweep", {"at": "a/x", "data": "d"}))
    seen = set()
    for _ in range(3):
        sweep._beat()
        seen.add(store.read(store.join("x", "watched")))
    assert len(seen) == 3


def test_changed_code_or_another_image_sweeps_again(away, toy_dataset, tmp_path, monkeypatch):
    config, spec, _ = away()
    handed_in = []

    class Done(kuberay.Job):
        """A job whose result is there at once."""

        def run(self, stale=()):
            handed_in.append((self.name, stale))
            for uri in stale:
                self.store.remove(uri)
            made = tmp_path / f"made-{len(handed_in)}"
            made.mkdir()
            for name in ("best.json", "trials.parquet", "summary.json"):
                (made / name).write_text("{}")
            self.store.publish(made, self.result)

    monkeypatch.setattr(jobs, "Job", Done)
    for _ in range(2):
        cluster.sweep(config, spec, toy_dataset, tmp_path / "out")
    assert len(handed_in) == 1
    monkeypatch.setattr(jobs, "code_of", lambda *_, **__: "new")
    cluster.sweep(config, spec, toy_dataset, tmp_path / "out")
    ray = config.ray.model_copy(update={"image": "another"})
    cluster.sweep(config.model_copy(update={"ray": ray}), spec, toy_dataset, tmp_path / "out")
    names = [name for name, _ in handed_in]
    assert len(set(names)) == len(names) == 3
    cluster.sweep(config, spec, toy_dataset, tmp_path / "out", resume=False)
    assert [uri.rpartition("/")[2] for uri in handed_in[-1][1]] == ["checkpoints", "result"]


def test_a_population_of_more_members_than_trials_takes_all_places(away, toy_dataset, tmp_path, monkeypatch):
    config, spec, _ = away()
    ray = config.ray.model_copy(update={"worker": config.ray.worker.model_copy(update={"cpu": "6", "memory": "8Gi"})})
    asked = []
    monkeypatch.setattr(step, "sweep_key", lambda *a: asked.append(a[-1]) or "key")
    monkeypatch.setattr(jobs, "run", lambda *a, **k: (_ for _ in ()).throw(SeawayError("handed in")))
    for scheduler in ("asha", "pbt"):
        sweep = config.workload.sweep.model_copy(update={"scheduler": scheduler, "population": 8})
        workload = config.workload.model_copy(update={"sweep": sweep})
        with pytest.raises(SeawayError, match="handed in"):
            cluster.sweep(config.model_copy(update={"ray": ray, "workload": workload}), spec, toy_dataset, tmp_path)
    assert asked == [4, 6]


def played_job(away, tmp_path, objects):
    """(job, what it said) on an API that answers as ``objects`` does."""
    config, *_ = away()
    store, said = Storage.of(config), []
    manifest = jobs.manifest(config, "sweep", {"at": "a/x", "data": "d"})
    return kuberay.Job(config, store, store.join("x"), manifest, objects, said.append), said


class Stays:
    """A RayJob that is being deleted and never gone."""

    deleted = 0

    def get(self, path):
        status = {"jobDeploymentStatus": "Running"}
        return {"metadata": {"name": "x", "deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": status}

    def delete(self, path):
        self.deleted += 1


def test_a_job_that_never_goes_away_is_told_of(away, tmp_path, monkeypatch):
    monkeypatch.setattr(kuberay, "SUBMIT_S", 0.5)
    job_, said = played_job(away, tmp_path, Stays())
    with pytest.raises(SeawayError, match=r"still there .* after it was deleted"):
        job_.run()
    assert said == ["waiting for RayJob x of an earlier attempt to be gone"]


def test_what_a_fresh_sweep_must_not_find_goes_only_once_the_old_job_has(away, tmp_path):
    made = []

    class Old(Stays):
        def get(self, path):
            if self.deleted:
                raise NotFound(path)
            assert store.exists(store.join("old")), "removed under a job that still writes there"
            return {"metadata": {"name": "x"}, "status": {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}}

        def create(self, path, body):
            made.append(store.exists(store.join("old")))

    api = Old()
    job_, _ = played_job(away, tmp_path, api)
    store = job_.store
    store.write(store.join("old"), b"x")
    job_._submit((store.join("old"),))
    assert made == [False]


def test_who_finds_his_job_gone_leaves_the_next_ones_alone(away, tmp_path):
    class Gone(Stays):
        def get(self, path):
            raise NotFound(path)

        def create(self, path, body):
            pass

    api = Gone()
    job_, _ = played_job(away, tmp_path, api)
    with pytest.raises(SeawayError, match="was deleted by somebody"):
        job_.run()
    assert api.deleted == 0


def test_a_workload_outside_the_image_is_named(away):
    config, _, _ = away()
    assert jobs.for_pods(config, "sweep").workload_file == config.workload_file  # shared files
    s3 = config.model_copy(update={"storage": config.storage.model_copy(update={"uri": "s3://bucket/x"})})
    with pytest.raises(SeawayError, match="the image of the job lacks it"):
        jobs.job_record(s3, "sweep", "a", {})
    assert jobs.for_pods(s3, "score").workload_file == config.workload_file  # whose code scoring does not run


def test_without_storage_there_is_no_sweep_elsewhere(away, toy_dataset, tmp_path):
    config, spec, _ = away()
    alone = config.model_copy(update={"storage": config.storage.model_copy(update={"uri": None})})
    with pytest.raises(SeawayError, match=r"set storage\.uri"):
        tune(alone, spec, toy_dataset, tmp_path)


def test_a_line_of_progress_is_the_newest(tmp_path, capsys):
    store = Storage(f"file://{tmp_path}/job")
    told = jobs.Told(store)
    for text in ("sweep: 1/4 trials\n", "sweep: 2/4 trials", "\n"):
        told.write(text)
    assert store.read(store.join("progress")) == b"sweep: 2/4 trials"
    assert "1/4" in capsys.readouterr().err
    with Progress(Sight(4, "auc", 9), told):
        pass
    assert b"starting Ray for 4" in store.read(store.join("progress"))
    assert json.loads(store.read(store.join("seen")))["trials"] == 4
