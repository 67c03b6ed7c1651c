"""The compiled pipeline: what a cluster is asked for, and that nothing is installed while it runs."""

import re

import pytest
import yaml

from components.steps import STEPS
from pipelines.compile import compile_pipeline
from pipelines.pods import pod_config
from seaway.config import Config, load

SETTINGS = {
    "image": "registry.example/train-python:7",
    "retries": 2,
    "resources": {"train": {"cpu": "3", "memory": "5Gi", "gpu": 1}},
}


@pytest.fixture(scope="module")
def config():
    return load(overrides={"pipeline": SETTINGS})


@pytest.fixture(scope="module")
def compiled(config, tmp_path_factory):
    file = compile_pipeline(config, tmp_path_factory.mktemp("ir") / "training.yaml")
    return list(yaml.safe_load_all(file.read_text()))


def containers(spec):
    return {name.removeprefix("exec-"): e["container"] for name, e in spec["deploymentSpec"]["executors"].items()}


def test_every_step_is_a_task_with_image_resources_and_a_name_to_read(compiled):
    spec = compiled[0]
    assert set(containers(spec)) == set(STEPS)
    for container in containers(spec).values():
        assert container["image"] == SETTINGS["image"]
        assert container["resources"]["resourceCpuRequest"]
        assert container["resources"]["resourceMemoryLimit"]
    names = {task["taskInfo"]["name"] for task in spec["root"]["dag"]["tasks"].values()}
    assert "Sweep parameters" in names


def test_the_order_follows_from_the_artifacts(compiled):
    tasks = compiled[0]["root"]["dag"]["tasks"]
    before = {name: set(task.get("dependentTasks", [])) for name, task in tasks.items()}
    assert before["ingest"] == set()
    assert before["register"] == {"ingest", "dataset", "train", "evaluate"}
    assert before["release"] == {"register"}


def test_gpu_memory_and_retries(compiled):
    spec, platform = compiled
    resources = containers(spec)["train"]["resources"]
    assert (resources["resourceCpuLimit"], resources["resourceMemoryRequest"]) == ("3", "5Gi")
    assert resources["accelerator"] == {
        "type": "nvidia.com/gpu", "count": "1", "resourceType": "nvidia.com/gpu", "resourceCount": "1",
    }  # fmt: skip
    assert all(t["retryPolicy"]["maxRetryCount"] == 2 for t in spec["root"]["dag"]["tasks"].values())
    kubernetes = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert kubernetes["exec-train"]["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    ]
    assert kubernetes["exec-tune"]["emptyDirMounts"][0]["mountPath"] == "/dev/shm"
    assert "tolerations" not in kubernetes["exec-tune"]


def test_nothing_is_installed_at_run_time_and_a_body_is_one_call(compiled):
    for name, container in containers(compiled[0]).items():
        script = "\n".join(container["command"])
        assert "pip" not in re.findall(r"[\w]+", script)
        assert "run_step(" in script
        assert f'"{name}"' in script


def test_kfps_own_cache_is_off(compiled):
    tasks = compiled[0]["root"]["dag"]["tasks"].values()
    assert not any(task.get("cachingOptions", {}).get("enableCache") for task in tasks)


def test_the_configuration_travels_as_the_parameter(compiled, config):
    default = compiled[0]["root"]["inputDefinitions"]["parameters"]["config"]["defaultValue"]
    assert Config.model_validate_json(default) == pod_config(config)


def test_compiling_twice_gives_the_same_file(config, tmp_path):
    one, two = (compile_pipeline(config, tmp_path / f"{n}.yaml").read_bytes() for n in "ab")
    assert one == two
