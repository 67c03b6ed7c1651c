"""The batch scoring pipeline: compiled for a cluster, and run here with real steps."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import polars as pl
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "components"))
from score_world import champion

from pipelines.batch_score import cluster_scoring, run_scoring
from pipelines.compile import compile_pipeline
from pipelines.run import newest_run
from seaway.cli import main
from seaway.config import load
from seaway.errors import SeawayError
from seaway.hooks import resolve

STEPS = ("ingest", "validate", "features", "score")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    needs = {"score": {"cpu": "4", "memory": "6Gi"}}
    config = load(overrides={"pipeline": {"image": "registry.example/train:7", "retries": 2, "resources": needs}})
    file = compile_pipeline(config, tmp_path_factory.mktemp("ir") / "score.yaml", cluster_scoring(config))
    return list(yaml.safe_load_all(file.read_text()))


def test_every_step_is_a_task_with_image_and_resources(compiled):
    executors = compiled[0]["deploymentSpec"]["executors"]
    containers = {name.removeprefix("exec-"): e["container"] for name, e in executors.items()}
    assert set(containers) == set(STEPS)
    assert {container["image"] for container in containers.values()} == {"registry.example/train:7"}
    resources = containers["score"]["resources"]
    assert (resources["resourceCpuLimit"], resources["resourceMemoryRequest"]) == ("4", "6Gi")
    tasks = compiled[0]["root"]["dag"]["tasks"]
    assert tasks["score"]["dependentTasks"] == ["features"]
    assert tasks["score"]["retryPolicy"]["maxRetryCount"] == 2
    assert compiled[0]["root"]["inputDefinitions"]["parameters"]["config"]["defaultValue"]


def test_the_pod_that_scores_trusts_the_key_and_has_room_for_ray(compiled):
    pods = compiled[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    score = pods["exec-score"]
    mounts = {m["mountPath"]: m for m in score["emptyDirMounts"]}
    assert mounts["/dev/shm"]["medium"] == "Memory"
    assert [m["mountPath"] for m in score["configMapAsVolume"]] == ["/var/run/seaway/trust"]
    assert "secretAsVolume" not in score, "it signs nothing"
    assert "configMapAsVolume" not in pods["exec-features"]


def test_only_what_has_changed_is_done_again_and_dear_work_is_asked_for(small, tmp_path, capsys):
    small.write_workload(tmp_path, rows=40)

    def go(**scoring):
        config = load(
            workload=tmp_path / "workload.yaml",
            overrides={"home": str(tmp_path / "home"), "scoring": {"workers": 1, **scoring}},
        )
        record = run_scoring(config, on_event=lambda event: None)
        score = record["steps"][-1]
        return {step["name"]: step["status"] for step in record["steps"]}, score["summary"], score["reason"]

    config = small.config_of(tmp_path)
    spec = resolve(config.workload.features, config.root)
    with pytest.raises(SeawayError, match="step score failed: there is no champion of small yet"):
        go()
    champion(config, spec, tmp_path, seed=0)
    status, summary, _ = go()
    assert status == dict.fromkeys(STEPS[:3], "skipped") | {"score": "done"}
    assert (summary["version"], summary["partitions"], summary["rows"], summary["scored"]) == ("1", 20, 40, 20)
    scores = tmp_path / "home" / "scores" / "scores"
    assert pl.read_parquet(scores)["id"].n_unique() == 40

    status, _, _ = go()
    assert set(status.values()) == {"skipped"}

    (scores / "2024-01-05.parquet").unlink()
    status, summary, reason = go()
    assert status["score"] == "done" and "1 of 20 partitions are not in" in reason
    assert (summary["scored"], summary["unchanged"]) == (1, 19)

    champion(config, spec, tmp_path, seed=1)
    status, summary, reason = go()
    assert status == dict.fromkeys(STEPS[:3], "skipped") | {"score": "done"}
    assert "scoring version" in reason and summary["version"] == "2" and summary["scored"] == 20

    with (tmp_path / "events.csv").open("a") as file:
        file.write("40,2024-01-21 10:00:00,1,2.5,0\n")
    status, summary, _ = go()
    assert set(status.values()) == {"done"}
    assert (summary["scored"], summary["unchanged"], summary["rows"]) == (1, 20, 41)

    with pytest.raises(SeawayError, match="there is no finished run"):  # to serve, report or release
        newest_run(small.config_of(tmp_path))
    command = ["score", "--workload", str(tmp_path / "workload.yaml"), "--home", str(tmp_path / "home"), "--explain"]
    command += ["--json", "--set", "scoring.workers=1"]
    command += ["--set", "budget.cpu_hour=100000", "--set", "budget.ask_above=0.01"]
    runs = len(list((tmp_path / "home" / "runs").iterdir()))
    assert main(command) == 2
    told = capsys.readouterr()
    assert "is above budget.ask_above (0.01 USD)" in told.err and "3 steps unchanged" in told.err
    assert len(list((tmp_path / "home" / "runs").iterdir())) == runs and told.out == ""
    assert main([*command, "--yes"]) == 0
    assert json.loads(capsys.readouterr().out)["scored"] == 21
    newest = max((tmp_path / "home" / "runs").iterdir())
    assert json.loads((newest / "run.json").read_text())["estimate"]["usd"] > 0.01
