from pathlib import Path

import pytest
import yaml

from seaway.config import load, merged, project_root
from seaway.errors import SeawayError


@pytest.mark.parametrize("env", ["local", "dev", "staging", "prod"])
def test_every_environment_loads(env):
    assert load(env).env == env


def test_configuration_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        load().release.rate = 1.0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"relaese": {}}, "unknown key 'relaese'"),
        ({"release": {"rat": 5}}, "unknown key 'release.rat'"),
        ({"release": {"rate": "fast"}}, r"'release.rate'.*'fast'"),
        ({"workload": {"split": {"train": "four weeks"}}}, r"'workload.split.train'.*four weeks.*duration"),
        ({"ray": {"worker": {"cpu": "two"}}}, r"'ray.worker.cpu'.*'two'"),
        ({"release": {"cap": "long"}}, r"'release.cap'.*long.*duration"),
        ({"release": {"block": "5"}}, r"'release.block'.*5.*duration"),
        ({"online_store": {"type": "cassandra"}}, r"'online_store.type'.*cassandra"),
        ({"release": {"guardrails": {"errors": {"margin": 2}}}}, r"'release.guardrails.errors.margin'.*2"),
    ],
)
def test_a_bad_key_or_value_is_named(overrides, message):
    with pytest.raises(SeawayError, match=message):
        load(overrides=overrides)


def test_an_unknown_environment_lists_the_known():
    with pytest.raises(SeawayError, match=r"nowhere\.yaml does not exist; there are: .*local.*prod"):
        load("nowhere")


def test_an_environment_overrides_single_keys(tmp_path: Path):
    for file in (project_root() / "config").glob("*.yaml"):
        (tmp_path / file.name).write_text(file.read_text())
    (tmp_path / "local.yaml").write_text(yaml.safe_dump({"release": {"rate": 7.5}}))
    config = load(folder=tmp_path)
    assert config.release.rate == 7.5
    assert config.release.ramp == load().release.ramp


def test_a_missing_key_and_broken_yaml_are_named(tmp_path: Path):
    broken = tmp_path / "mine.yaml"
    broken.write_text("name: [")
    with pytest.raises(SeawayError, match="not valid YAML"):
        load(workload=broken)
    broken.write_text("name: mine\n")
    with pytest.raises(SeawayError, match=r"'workload.sources' is missing in mine.yaml"):
        load(workload=broken)


def test_files_are_merged_key_by_key():
    assert merged({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"c": None}, "d": [2]}) == {
        "a": {"b": 1, "c": None},
        "d": [2],
    }


@pytest.mark.parametrize(
    "key", ["tracking_uri", "storage.endpoint", "pipeline.host", "pipeline.ui", "serving.prometheus", "serving.url"]
)
def test_a_login_in_an_address_is_refused_and_not_told(key):
    section, _, name = key.rpartition(".")
    value = {name: "http://me:hunter2@host:5000"}
    with pytest.raises(SeawayError, match=f"key '{name}' holds a login") as caught:
        load(overrides={section: value} if section else value)
    assert "hunter2" not in str(caught.value)
