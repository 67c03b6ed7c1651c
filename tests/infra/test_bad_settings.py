"""Settings that must be refused before any resource is touched, each with the key and what to do about it.

The stacks that are shipped are the good ones: every case is one of them with one thing wrong.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import yaml

from infra import settings as platform
from infra import versions
from infra.cluster import settings as clusters
from infra.program import deploy  # not later: modules that are read under another FOLDER would keep it
from seaway.errors import SeawayError
from tests.infra import rendering

KEY_SERVICE = "awskms://alias/seaway?region=eu-central-1"
GONE = object()
# stack, key, its bad value, what the refusal says: the key as it names it, and a part of the fix
TYPES = [
    ("dev", "budget.monthly_usd", "much", "'budget.monthly_usd'", "valid number"),
    ("dev", "budget.monthly_usd", 0, "'budget.monthly_usd'", "greater than 0"),
    ("dev", "budget", GONE, "'budget'", "add it"),
    ("dev", "availability.replica", 2, "'availability.replica'", "did you mean replicas?"),
    ("dev", "gpuu", {"count": 1}, "'gpuu'", "did you mean gpu?"),
    ("dev", "availability.replicas", "three", "'availability.replicas'", "valid integer"),
    ("dev", "availability.replicas", 0, "'availability.replicas'", "greater than or equal to 1"),
    ("dev", "redis.storage", "8 GB", "'redis.storage'", "such as 500m, 16 or 64Gi"),
    ("dev", "monitoring.retention", "a week", "'monitoring.retention'", "such as 7d"),
    ("dev", "gateway.kind", "loadbalancer", "'gateway.kind'", "'LoadBalancer'"),
    ("dev", "tenancy.training", "Training", "'tenancy.training'", "lower-case"),
    ("dev", "tenancy.serving", [], "'tenancy.serving'", "at least 1"),
    ("staging", "gpu.count", 0, "'gpu.count'", "greater than or equal to 1"),
    ("prod", "redis.host", "redis.prod.example.com", "'redis.host'", "write host and port"),
    ("prod", "database.host", "postgres://db.example.com:5432", "'database.host'", "write host and port"),
    ("prod", "tenancy.api_server", ["10.20.0.1/16"], "'tenancy.api_server.0'", "such as 10.20.0.0/16"),
]
TOGETHER = [
    ("dev", "cluster.stack", "organization/seaway-cluster/dev", "'cluster'", "either stack"),
    ("dev", "cluster.identifier", GONE, "'cluster'", "give identifier"),
    ("dev", "tenancy.quotas.serving-dev", GONE, "'tenancy.quotas': lacks serving-dev", "give each namespace"),
    ("dev", "tenancy.quotas.serving-dve", {}, "'tenancy.quotas.serving-dve'", "correct its name"),
    ("dev", "tenancy.quotas.training.default_memory", "32Gi", "default_memory'", "lower it"),
    ("dev", "tenancy.quotas.training.gpu", 1, "'tenancy.quotas.training.gpu'", "no pool"),
    ("staging", "tenancy.quotas.training.gpu", 0, "'tenancy.quotas.training.gpu'", "give it up to gpu.count"),
    ("dev", "tenancy.training", "serving-dev", "'tenancy'", "a name of its own"),
    ("dev", "tenancy.training", "kubeflow", "'tenancy'", "choose another"),
    ("dev", "tenancy.api_server", ["10.0.0.0/8", "10.20.0.0/16"], "'tenancy.api_server'", "overlap"),
    ("staging", "tenancy.viewers", ["seaway-admins"], "'tenancy.viewers'", "leave it in one"),
    ("dev", "availability.disruption_budgets", True, "'availability'", "at least 2"),
    ("staging", "objects.uri", "https://bucket.example.com", "'objects.uri'", "s3://bucket/prefix"),
    ("staging", "objects.uri", GONE, "'objects.region'", "add objects.uri"),
    ("dev", "redis.tls", True, "'redis.tls'", "redis.host"),
    ("prod", "addons", False, "'monitoring.opencost'", "set one of the two"),
    ("prod", "availability.protect", False, "'availability.protect'", "set it to true"),
    ("prod", "availability.disruption_budgets", False, "'availability.disruption_budgets'", "set it to true"),
    ("prod", "availability", {"protect": True}, "'availability.replicas'", "at least 2"),
    ("prod", "gateway.tls_secret", GONE, "'gateway.tls_secret'", "certificate"),
    ("prod", "redis", {"append_only": False}, "'redis.append_only'", "set it to true"),
    ("prod", "tenancy.admins", [], "'tenancy.admins'", "name a group"),
]
ELSEWHERE = [
    ("dev", "env", "nowhere", "'env'", "nowhere.yaml"),
    ("prod", "budget.monthly_usd", 300, "'budget.monthly_usd'", "below the estimate"),
    ("staging", "gpu.node_labels", {"pool": "gpus"}, "'gpu.node_labels'", "add such a pool"),
    ("dev", "sources.digests", True, "'sources.digests'", "lacks `digest: sha256:"),
    ("dev", "sources.chart", {"kubray-operator": "/charts"}, "'sources.chart.kubray-operator'", "kuberay-operator"),
    ("dev", "sources.charts", "/nowhere/charts", "'sources'", "copy them there"),
]
CLUSTERS = [
    ("prod", "network.services", "10.20.128.0/17", "'network'", "overlap"),
    ("prod", "access.allow", ["0.0.0.0/0"], "'access'", "name the networks"),
    ("prod", "access.allow", ["198.51.100.7/24"], "'access.allow.0'", "such as 10.20.0.0/16"),
    ("prod", "pools.serving.min", 9, "'pools.serving'", "lower it"),
    ("prod", "region", GONE, "region", "add it"),
    ("prod", "access.admins", [], "access.admins", "IAM role"),
    ("prod", "version", "latest", "'version'", "such as '1.34'"),
]


def changed(data: dict, key: str, value: object) -> dict:
    data = copy.deepcopy(data)
    *path, last = key.split(".")
    inner = data
    for part in path:
        inner = inner.setdefault(part, {})
    if value is GONE:
        del inner[last]
    else:
        inner[last] = value
    return data


def shipped(project: str, folder: Path, stack: str) -> dict:
    return yaml.safe_load((folder / f"Pulumi.{stack}.yaml").read_text())["config"][f"{project}:settings"]


@pytest.fixture
def stack_file(tmp_path, monkeypatch):
    """Lets the program find its stack's file in a folder of the test, with a key service for secrets."""
    monkeypatch.setattr(platform, "FOLDER", tmp_path)

    def write(stack: str, **lines: str) -> Path:
        file = tmp_path / f"Pulumi.{stack}.yaml"
        file.write_text(yaml.safe_dump({"secretsprovider": KEY_SERVICE, **lines}))
        return file

    return write


def refusal(stack: str, data: object, monkeypatch) -> str:
    """What the program says of these settings, having asked the engine for nothing."""
    monitors = []

    class Monitor(rendering._Monitor):
        def __init__(self) -> None:
            super().__init__()
            monitors.append(self)

    def program():
        return deploy(platform.read())

    monkeypatch.setattr(rendering, "_Monitor", Monitor)
    with pytest.raises(SeawayError) as refused:
        rendering.run(program, stack, {f"{platform.PROJECT}:settings": json.dumps(data)})
    assert [m.captured for m in monitors] == [[]]
    return str(refused.value)


@pytest.mark.parametrize(("stack", "key", "value", "named", "fix"), [*TYPES, *TOGETHER, *ELSEWHERE])
def test_refused_before_anything_is_made(stack, key, value, named, fix, stack_file, monkeypatch):
    stack_file(stack)
    said = refusal(stack, changed(shipped(platform.PROJECT, versions.FOLDER, stack), key, value), monkeypatch)
    assert f"Pulumi.{stack}.yaml" in said
    lines = [line for line in said.splitlines()[1:] if named in line]
    assert len(lines) == 1, said
    assert fix in lines[0]


@pytest.mark.parametrize(("stack", "key", "value", "named", "fix"), CLUSTERS)
def test_clusters_refused_before_anything_is_made(stack, key, value, named, fix):
    with pytest.raises(SeawayError) as refused:
        clusters.parse(changed(shipped(clusters.PROJECT, clusters.FOLDER, stack), key, value))
    lines = [line for line in str(refused.value).splitlines()[1:] if named in line]
    assert len(lines) == 1, str(refused.value)
    assert fix in lines[0]


@pytest.mark.parametrize("provider", ["passphrase", None])
def test_production_is_refused_where_a_passphrase_opens_its_secrets(provider, stack_file, monkeypatch):
    file = stack_file("prod")
    file.write_text(yaml.safe_dump({"secretsprovider": provider} if provider else {"encryptionsalt": "v1:…"}))
    said = refusal("prod", shipped(platform.PROJECT, versions.FOLDER, "prod"), monkeypatch)
    assert "key 'secretsprovider': passphrase" in said
    assert "pulumi stack change-secrets-provider" in said


def test_secrets_that_are_missing_are_told_before_anything_is_made(stack_file, monkeypatch):
    stack_file("dev")
    fewer = {k: v for k, v in rendering.CONFIG.items() if not k.endswith(("redisPassword", "modelKey"))}
    monkeypatch.setattr(rendering, "CONFIG", fewer)
    said = refusal("dev", shipped(platform.PROJECT, versions.FOLDER, "dev"), monkeypatch)
    assert "lacks the Pulumi secrets redisPassword, modelKey" in said
    assert "pulumi config set --secret redisPassword" in said


def test_no_settings_at_all(stack_file, monkeypatch):
    stack_file("dev")
    assert "valid dictionary" in refusal("dev", None, monkeypatch)


def test_every_problem_is_named_at_once(stack_file, monkeypatch):
    stack_file("prod")
    data = shipped(platform.PROJECT, versions.FOLDER, "prod")
    for key, value in (("availability", {}), ("gateway.tls_secret", GONE), ("tenancy.admins", [])):
        data = changed(data, key, value)
    said = refusal("prod", data, monkeypatch)
    for key in ("availability.protect", "availability.replicas", "gateway.tls_secret", "tenancy.admins"):
        assert f"key '{key}'" in said


def test_the_shipped_stacks_are_good(env, stack_file, monkeypatch):
    file = stack_file(env)
    good = platform.parse(shipped(platform.PROJECT, versions.FOLDER, env))
    from infra import checks

    assert checks.of_site(good, file) == []


def test_enough_of_them():
    assert len(TYPES + TOGETHER + ELSEWHERE + CLUSTERS) >= 30
