"""Batch scoring on Ray, and what survives: the command killed with kill -9, a worker killed, a Ray lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import polars as pl
import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from conftest import make_config
from jobs_world import Played
from score_world import champion, table, write_days

from components.ray import kuberay, local
from components.score import crew
from components.score.model import load
from components.score.places import Place
from components.score.step import score_table
from seaway.config import project_root
from seaway.errors import SeawayError
from seaway.storage import Storage

DAYS, MANY = 12, 120  # MANY: with reasons for every row, worth the start of a Ray


@pytest.fixture(scope="module")
def world(tmp_path_factory, toy_hooks):
    """(folder, config, the undisturbed scores): a champion, and rows in files of a day."""
    folder = tmp_path_factory.mktemp("faults")
    config, spec = make_config(folder, toy_hooks)
    champion(config, spec, folder)
    alone = with_scoring(config, workers=1)
    for data, out, days in (("data", "undisturbed", DAYS), ("data-many", "undisturbed-many", MANY)):
        write_days(table(rows=500 * days, days=days), folder / data)
        score_table(alone, load(config), Place(str(folder / data)), Place(str(folder / out)))
    return folder, config, files(folder / "undisturbed")


def with_scoring(config, **scoring):
    return config.model_copy(update={"scoring": config.scoring.model_copy(update=scoring)})


def files(out: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((out / "scores").iterdir())}


def start(folder: Path, out: Path, *more: str, data: str = "data") -> subprocess.Popen:
    """`seaway score`, with reasons for every row: some seconds of work a partition."""
    command = [str(Path(sys.executable).with_name("seaway")), "score"]
    command += ["--workload", str(folder / "workload.yaml"), "--home", str(folder / "home")]
    command += ["--data", str(folder / data), "--out", str(out), "--set", "compute.cpus=2", "--json", *more]
    return subprocess.Popen(command, cwd=project_root(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(out: Path, partitions: int, command: subprocess.Popen) -> None:
    deadline = time.monotonic() + 180
    while len(list(out.glob("manifests/*.json"))) < partitions:
        assert command.poll() is None, command.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def killed(command: subprocess.Popen) -> None:
    """SIGKILL, and nothing that it started is left."""
    below = psutil.Process(command.pid).children(recursive=True)
    command.kill()
    command.communicate()
    _, left = psutil.wait_procs(below, timeout=30)
    assert not [p for p in left if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def wait_for_worker(command: subprocess.Popen) -> None:
    """Until a partition is scored in a process of Ray's."""
    deadline = time.monotonic() + 120
    while not any("ray::attempt" in " ".join(words) for words in below(command).values()):
        assert command.poll() is None and time.monotonic() < deadline, command.communicate()
        time.sleep(0.02)


def below(command: subprocess.Popen) -> dict[psutil.Process, list[str]]:
    """The processes that it has started, and their command lines."""
    found = {}
    for process in psutil.Process(command.pid).children(recursive=True):
        with suppress(psutil.Error):
            found[process] = process.cmdline()
    return found


@pytest.mark.parametrize(
    ("workers", "days", "more"), [(1, DAYS, ""), pytest.param(2, MANY, "-many", marks=pytest.mark.slow)]
)
def test_after_kill_9_only_unfinished_partitions_are_scored(world, tmp_path, workers, days, more):
    folder, *_ = world
    out, how = tmp_path / "out", ("--log", "--explain", "all", "--set", f"scoring.workers={workers}")
    first = start(folder, out, *how, data=f"data{more}")
    if workers > 1:
        wait_for_worker(first)
    wait_for(out, 3, first)
    killed(first)
    finished = {p.stem: p.stat().st_mtime_ns for p in out.glob("manifests/*.json")}
    whole = {day: (out / "scores" / f"{day}.parquet").read_bytes() for day in finished}
    assert 3 <= len(finished) < days
    (out / "scores" / ".2024-01-12.0123456789ab.parquet").write_bytes(b"half")  # as a writer that was killed leaves it
    again = start(folder, out, *how, data=f"data{more}")
    told, said = again.communicate(timeout=300)
    assert again.returncode == 0, said
    summary = json.loads(told)
    assert (summary["unchanged"], summary["scored"]) == (len(finished), days - len(finished))
    assert f"{len(finished)} are done already" in said
    assert {day: (out / "scores" / f"{day}.parquet").read_bytes() for day in finished} == whole
    assert {d: (out / "manifests" / f"{d}.json").stat().st_mtime_ns for d in finished} == finished
    expected = folder / f"undisturbed{more}" / "scores"
    assert sorted(p.name for p in (out / "scores").iterdir()) == sorted(p.name for p in expected.iterdir())
    made = pl.read_parquet(out / "scores")
    assert made.drop("reasons").equals(pl.read_parquet(expected)), "nothing twice, nothing half"
    logs = [(out / "log" / f"{p.stem}.jsonl").read_text().splitlines() for p in out.glob("scores/*")]
    assert sum(map(len, logs)) == 500 * days


@pytest.fixture(scope="module")
def ray(world):
    """One Ray for this module, joined by scoring as `ray.substrate: address` does."""
    from components.ray.local import local_ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")  # else whatever runs beside this test starves the workers
        with local_ray(2, 0, 80_000_000) as started:
            yield started


def at_address(config, **scoring):
    ray = config.ray.model_copy(update={"substrate": "address", "address": "auto"})
    return with_scoring(config, **scoring).model_copy(update={"ray": ray})


def test_on_ray_the_files_are_those_of_one_process(world, ray, tmp_path):
    folder, config, undisturbed = world
    summary = score_table(at_address(config), load(config), Place(str(folder / "data")), Place(str(tmp_path / "out")))
    assert summary["scored"] == DAYS
    assert files(tmp_path / "out") == undisturbed


def test_a_worker_that_is_killed_costs_its_partition_only(world, ray, tmp_path):
    folder, config, _ = world
    seen: list[int] = []

    def kill_one():
        deadline = time.monotonic() + 60
        while not seen and time.monotonic() < deadline:
            for process in psutil.process_iter(["name", "cmdline"]):
                if process.info["cmdline"] and "ray::attempt" in process.info["cmdline"][0] and _mine(process):
                    os.kill(process.pid, signal.SIGKILL)
                    seen.append(process.pid)
                    return
            time.sleep(0.005)

    killer = threading.Thread(target=kill_one)
    killer.start()
    config = at_address(config, explain="all")
    summary = score_table(config, load(config), Place(str(folder / "data")), Place(str(tmp_path / "out")))
    killer.join()
    assert seen, "no worker was killed"
    assert summary["scored"] == DAYS
    assert (
        pl.read_parquet(tmp_path / "out" / "scores")
        .drop("reasons")
        .equals(pl.read_parquet(folder / "undisturbed" / "scores"))
    )


def _mine(process: psutil.Process) -> bool:
    return os.getpid() in [parent.pid for parent in process.parents()]


@pytest.fixture
def on_cluster(world, ray, tmp_path, monkeypatch):
    """(config, played): scoring by RayJobs, storage being a folder that their pods see."""
    _, config, _ = world
    played = Played(ray.get_runtime_context().gcs_address, {}, tmp_path)
    monkeypatch.setattr(kuberay, "Api", lambda context: played)
    storage = config.storage.model_copy(update={"uri": f"file://{tmp_path}/objects"})
    substrate = config.ray.model_copy(update={"substrate": "kuberay", "poll": "1s"})
    yield config.model_copy(update={"ray": substrate, "storage": storage}), played
    for process in played.processes.values():
        process.kill()


def test_a_rayjob_makes_the_same_files(world, on_cluster, tmp_path):
    folder, _, undisturbed = world
    config, played = on_cluster
    data, out = Place(str(folder / "data")), Place(str(tmp_path / "out"))
    summary = score_table(config, load(config), data, out)
    assert (summary["scored"], summary["rows"]) == (DAYS, 6000), (tmp_path / "log-1").read_text()
    assert files(tmp_path / "out") == undisturbed
    assert played.objects == {}, "the job is gone afterwards"
    assert score_table(config, load(config), data, out)["scored"] == 0


def test_a_rayjob_that_fails_says_why(world, on_cluster, tmp_path, monkeypatch):
    folder, _, _ = world
    config, _ = on_cluster
    other = config.model_copy(update={"storage": config.storage.model_copy(update={"uri": None})})
    with pytest.raises(SeawayError, match="whose pods share no files"):
        score_table(other, load(config), Place(str(folder / "data")), Place(str(tmp_path / "out")))
    model, write = load(config), Storage.write

    def exchanged(self, uri, data, **how):  # the model's record, behind this side's back
        return write(self, uri, data.replace(b'"threshold":0.5', b'"threshold":0.9'), **how)

    monkeypatch.setattr(Storage, "write", exchanged)
    with pytest.raises(SeawayError, match="is not the one that was handed in"):
        score_table(config, model, Place(str(folder / "data")), Place(str(tmp_path / "out")))
    assert not (tmp_path / "out" / "scores").exists()


def test_a_partition_that_cannot_be_read_is_told_from_ray(world, ray, tmp_path):
    folder, config, _ = world
    (tmp_path / "data").mkdir()
    for file in (folder / "data").iterdir():
        (tmp_path / "data" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "data" / "2024-01-02.parquet").write_bytes(b"no parquet")
    with pytest.raises(SeawayError, match=r"1 of 12 partitions could not be scored:\n  2024-01-02: .* cannot be read"):
        score_table(at_address(config), load(config), Place(str(tmp_path / "data")), Place(str(tmp_path / "out")))
    assert len(files(tmp_path / "out")) == DAYS - 1


def test_this_process_scores_until_ray_is_there(world, ray, tmp_path, monkeypatch):
    folder, config, _ = world
    here, third = [], threading.Event()

    @contextmanager
    def when_the_third_is_begun(*_):
        assert third.wait(60)
        yield ray

    def begun(call, part, *rest, before=crew._begun):
        here.append(part.name)
        if len(here) == 3:
            third.set()
        return before(call, part, *rest)

    monkeypatch.setattr(crew, "_ray", when_the_third_is_begun)
    monkeypatch.setattr(crew, "_begun", begun)
    monkeypatch.setattr(crew, "RAY_START_S", 0.0)
    config = with_scoring(config, workers=2, explain="all")
    summary = score_table(config, load(config), Place(str(folder / "data")), Place(str(tmp_path / "out")))
    assert summary["scored"] == DAYS and len(files(tmp_path / "out")) == DAYS
    assert 3 <= len(here) < DAYS


def test_little_work_starts_no_ray(world, tmp_path, monkeypatch):
    folder, config, undisturbed = world
    monkeypatch.setattr(local, "local_ray", None)
    config = with_scoring(config, workers=2)
    score_table(config, load(config), Place(str(folder / "data")), Place(str(tmp_path / "out")))
    assert files(tmp_path / "out") == undisturbed


@pytest.mark.slow
def test_a_ray_that_is_lost_is_told_and_finished_partitions_stay(world, tmp_path):
    folder, *_ = world
    out, how = tmp_path / "out", ("--log", "--explain", "all", "--set", "scoring.workers=2")
    command = start(folder, out, *how, data="data-many")
    wait_for_worker(command)
    next(p for p in below(command) if p.name() == "raylet").kill()
    told, said = command.communicate(timeout=120)
    assert command.returncode == 2, (told, said)
    assert "raylet has ended; finished partitions are kept" in said
    kept = len(list(out.glob("manifests/*.json")))
    again = start(folder, out, *how, data="data-many")
    told, said = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert json.loads(told)["unchanged"] == kept >= 1
    expected = folder / "undisturbed-many" / "scores"
    assert pl.read_parquet(out / "scores").drop("reasons").equals(pl.read_parquet(expected))
