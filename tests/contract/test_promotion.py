"""What `seaway promote` finds of a real cluster: each missing part is told, and a whole platform lacks nothing."""

import os
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from seaway import ledger
from seaway.config import Infrastructure, load
from seaway.hooks import resolve
from seaway.keys import ensure_keys
from seaway.kube_api import Api
from seaway.registry import CHAMPION, RELEASED, SIGNED, Registry
from serving.platform_info import with_infrastructure
from serving.promotion.facts import target_of
from serving.promotion.move import carry_out, prepare
from serving.substrate.kubernetes import KubernetesSubstrate
from tests.serving.conftest import Bundles
from tests.serving.promoted import promoted

pytestmark = pytest.mark.skipif(
    "SEAWAY_KUBECONFIG" not in os.environ, reason="SEAWAY_KUBECONFIG names no cluster that may be used up"
)


@pytest.fixture
def place(tmp_path):
    """(api, config) with a namespace for releases, one for the controller and one for the store, all empty."""
    api = Api(kubeconfig=os.environ["SEAWAY_KUBECONFIG"])
    tail = uuid.uuid4().hex[:8]
    names = {name: f"{name}-{tail}" for name in ("serving", "system", "features")}
    for name in names.values():
        api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    serving = {"namespace": names["serving"], "controller_namespace": names["system"], "trust": "model-key"}
    store = {"type": "redis", "connection": f"redis.{names['features']}:6379"}
    more = {"home": str(tmp_path), "storage": {"uri": "s3://bucket"}, "serving": serving, "online_store": store}
    yield api, load("prod", overrides=more)
    for name in names.values():
        api.delete(f"/api/v1/namespaces/{name}")


def config_map(api, namespace, name, data):
    api.create(f"/api/v1/namespaces/{namespace}/configmaps", {"metadata": {"name": name}, "data": data})


def deployed(api, namespace, name, replicas):
    labels = {"app": name}
    limits = {"cpu": "10m", "memory": "10Mi"}
    pod = {"containers": [{"name": "c", "image": "none:1", "resources": {"requests": limits, "limits": limits}}]}
    template = {"metadata": {"labels": labels}, "spec": pod}
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    spec = {"selector": {"matchLabels": labels}, "template": template, "replicas": replicas}
    api.create(path, {"metadata": {"name": name}, "spec": spec})
    deadline = time.monotonic() + 60
    while api.get(f"{path}/{name}").get("status", {}).get("readyReplicas", 0) < replicas:
        assert time.monotonic() < deadline, "the test's own controller does not become ready"
        time.sleep(0.2)


def account(api, config):
    """Without it no pod of a server is made."""
    meta = {"name": config.serving.service_account}
    api.create(f"/api/v1/namespaces/{config.serving.namespace}/serviceaccounts", {"metadata": meta})


def endpoint(api, namespace, ready):
    body = {
        "metadata": {"name": "redis-1", "labels": {"kubernetes.io/service-name": "redis"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}],
    }
    api.create(f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices", body)


def test_an_empty_namespace_lacks_each_part_and_a_platform_lacks_none(place):
    api, config = place
    namespace, system = config.serving.namespace, config.serving.controller_namespace
    features = config.online_store.connection.partition(":")[0].partition(".")[2]
    lacks = " | ".join(target_of(config, "", api).platform)
    for said in (
        "make up ENV=prod",
        "no key to trust",
        "no release controller",
        "no pod that is ready",
        "no service account",
    ):
        assert said in lacks, said
    assert "Seldon Core is not installed" not in lacks

    _, public = ensure_keys(config)
    config_map(api, namespace, "seaway-platform", {"stack": "organization/seaway-platform/prod", "update": "7"})
    config_map(api, namespace, "model-key", {"model.pub": "another"})
    deployed(api, system, "seaway-controller", replicas=0)
    endpoint(api, features, ready=False)
    lacks = " | ".join(target_of(config, "", api).platform)
    for said in ("another key than trust.public_key", "not ready: nobody would decide", "no pod that is ready"):
        assert said in lacks, said
    assert "make up" not in lacks

    api.delete(f"/api/v1/namespaces/{namespace}/configmaps/model-key")
    config_map(api, namespace, "model-key", {"model.pub": public.read_text()})
    api.delete(f"/apis/apps/v1/namespaces/{system}/deployments/seaway-controller")
    deployed(api, system, "seaway-controller", replicas=1)
    account(api, config)
    api.delete(f"/apis/discovery.k8s.io/v1/namespaces/{features}/endpointslices/redis-1")
    endpoint(api, features, ready=True)
    assert target_of(config, "", api).platform == ()


def test_a_bundle_moves_to_a_cluster_and_serves_there(place, tmp_path):
    api, config = place
    trust = Bundles(tmp_path, {}).trust
    images = {
        name: f"registry.example.com/seaway/{name}@sha256:{'5' * 64}" for name in ("train", "serve", "controller")
    }
    source = load("staging", overrides={
        "home": str(tmp_path / "staging"), "trust": trust, "tracking_uri": None,
        "storage": {"uri": (tmp_path / "staging-objects").as_uri(), "region": None},
        "pipeline": {"image": images["train"]},
        "serving": {"image": images["serve"], "controller_image": images["controller"]},
    })  # fmt: skip
    serving, store = config.serving, config.online_store
    target = load("prod", overrides={
        "home": str(tmp_path / "prod"), "trust": trust, "tracking_uri": None,
        "storage": {"uri": (tmp_path / "prod-objects").as_uri(), "region": None}, "online_store": store.model_dump(),
        "serving": {k: getattr(serving, k) for k in ("namespace", "controller_namespace", "trust")} | {"replicas": 1},
    })  # fmt: skip
    version = promoted(source, tmp_path / "made", resolve(source.workload.features, source.root), "one", -22.0)
    config_map(api, serving.namespace, "seaway-platform", {"stack": "organization/seaway-platform/prod", "update": "7"})
    config_map(api, serving.namespace, "model-key", {"model.pub": Path(trust["public_key"]).read_text()})
    deployed(api, serving.controller_namespace, "seaway-controller", replicas=1)
    account(api, target)
    endpoint(api, store.connection.partition(":")[0].partition(".")[2], ready=True)

    ready = prepare(source, target, api=api)
    assert ready.lacking == []
    ready = replace(ready, target=with_infrastructure(target, api))
    place = KubernetesSubstrate(api, serving.namespace)
    record = carry_out(ready, substrate=place)
    assert record["verdict"] == "promoted", record["reason"]
    (predictor,) = place.read(target.workload.name)["spec"]["predictors"]
    spec = predictor["componentSpecs"][0]["spec"]
    assert [c["image"] for c in (*spec["containers"], *spec["initContainers"])] == [images["serve"]] * 2
    moved = Registry.of(target).get(CHAMPION)
    assert (moved.tags[SIGNED], moved.tags[RELEASED]) == (version.tags[SIGNED], version.tags[RELEASED])
    last = ledger.read(target.home / "ledger.jsonl")[-1]["entry"]
    assert last["infrastructure"]["update"] == "7" and last["bundle"] == version.tags[RELEASED]


def test_the_platform_tells_which_stack_and_update_it_is(place):
    api, config = place
    told = []
    unknown = with_infrastructure(config, api, on_event=told.append)
    assert unknown.infrastructure.stack == "unknown" and "recorded as unknown" in told[0]
    data = {"stack": "organization/seaway-platform/prod", "update": "7", "digest": "abc", "settings": "{}"}
    config_map(api, config.serving.namespace, "seaway-platform", data)
    found = with_infrastructure(config, api).infrastructure
    assert found == Infrastructure(stack="organization/seaway-platform/prod", update="7", digest="abc")
