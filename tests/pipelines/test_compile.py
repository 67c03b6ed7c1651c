"""The compiled pipeline: what a cluster is asked for, and that nothing is installed while it runs."""

import hashlib
import re

import pytest
import yaml

from components.steps import STEPS
from pipelines import compile as compiling
from pipelines.compile import compile_pipeline
from pipelines.pods import pod_config
from seaway.config import Config, load, project_root

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
    assert set(containers(spec)) == set(STEPS) - {"score"}
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


ON_A_CLUSTER = {
    "pipeline": SETTINGS | {"spot": True, "queue": "gpu"},
    "storage": {"uri": "s3://bucket/seaway", "secret": "storage"},
    "online_store": {"type": "redis", "connection": "redis.features:6379", "password_secret": "redis"},
    "serving": {"context": "kind-mine"},
    "ray": {"context": "kind-mine"},
}


@pytest.fixture(scope="module")
def pods(tmp_path_factory):
    """What each step's pod gets beside image and resources, by step."""
    config = load(overrides=ON_A_CLUSTER)
    file = compile_pipeline(config, tmp_path_factory.mktemp("ir") / "training.yaml")
    platform = list(yaml.safe_load_all(file.read_text()))[1]["platforms"]["kubernetes"]
    return {name.removeprefix("exec-"): part for name, part in platform["deploymentSpec"]["executors"].items()}


def secrets(pod):
    return {s["secretName"]: {k["envVar"] for k in s["keyToEnv"]} for s in pod.get("secretAsEnv", [])}


def test_secrets_reach_the_pods_that_need_them_by_name_alone(pods):
    storage = {"storage": {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}}
    assert secrets(pods["train"]) == storage
    assert secrets(pods["dataset"]) == storage | {"redis": {"SEAWAY_REDIS_PASSWORD"}}
    mounted = {step: pod.get("secretAsVolume", []) for step, pod in pods.items()}
    signing = {step: [volume["secretName"] for volume in volumes] for step, volumes in mounted.items() if volumes}
    assert signing == {"register": ["model-key"]}, "one step signs"
    trusting = {step for step, pod in pods.items() if pod.get("configMapAsVolume")}
    assert trusting >= {"evaluate", "register", "release"}
    assert "train" not in trusting


def test_pods_run_as_nobody_special_with_a_home_of_their_own(pods):
    for pod in pods.values():
        assert pod["securityContext"] == {"runAsUser": "8888", "runAsGroup": "8888", "runAsNonRoot": True}
        assert {m["mountPath"] for m in pod["emptyDirMounts"]} >= {"/home/seaway", "/tmp"}


def test_spot_and_queue(pods):
    keys = {name: {t["key"] for t in pod["tolerations"]} for name, pod in pods.items()}
    assert all("seaway.dev/spot" in found for found in keys.values())
    assert keys["train"] == {"seaway.dev/spot", "nvidia.com/gpu"}
    queues = {name: pod.get("podMetadata", {}).get("labels", {}) for name, pod in pods.items()}
    assert queues["train"] == {"kueue.x-k8s.io/queue-name": "gpu"}
    assert not queues["ingest"], "only what needs a GPU waits for one"


def test_the_pods_configuration_names_nothing_of_this_machine(tmp_path):
    overrides = {**ON_A_CLUSTER, "home": str(tmp_path)}
    overrides["pipeline"] = overrides["pipeline"] | {"token_file": str(tmp_path / "t"), "ca_file": str(tmp_path / "c")}
    made = compiling.compiled(load(overrides=overrides))
    text = made.config.model_dump_json()
    assert str(tmp_path) not in text
    assert str(project_root()) not in text
    assert "kind-mine" not in text, "a pod has its own account"
    assert made.config.trust.private_key == "/var/run/seaway/sign/model.pem"


def test_the_digest_is_that_of_the_file_that_compile_writes(tmp_path):
    config = load(overrides=ON_A_CLUSTER)
    file = compile_pipeline(config, tmp_path / "training.yaml")
    made = compiling.compiled(config)
    assert made.digest == made.config.pipeline.digest == hashlib.sha256(file.read_bytes()).hexdigest()
    other = compiling.compiled(load(overrides={**ON_A_CLUSTER, "pipeline": SETTINGS}))
    assert other.digest != made.digest
