"""What a release writes for bundles in object storage, with the real operator: its pods, and a promotion's checks."""

from __future__ import annotations

from pathlib import Path

import pytest

from seaway import bundles as remote
from seaway.config import load
from seaway.keys import IN_PODS
from seaway.signing import digest
from serving import bundle_check
from serving.manifests import with_traffic
from serving.release_plan import plan
from serving.rollout import state as states
from serving.substrate.base import AVAILABLE
from serving.substrate.kube_objects import follows
from tests.contract.conftest import rewritten, wait_for


@pytest.fixture
def config(kube, bundles, tmp_path):
    return load(
        "dev",
        overrides={
            "home": str(tmp_path / "home"),
            "tracking_uri": None,
            "trust": bundles.trust,
            "storage": {"uri": (tmp_path / "store").as_uri(), "endpoint": "http://s3:9000", "secret": "storage"},
            "serving": {"namespace": kube.namespace, "service_account": None},  # nobody made one in this namespace
        },
    )


@pytest.fixture
def made(config, bundles):
    def version(number):
        folder = Path(bundles.make(number))
        return {"version": number, "run_id": f"run-{number}", "bundle": remote.publish(config, folder, digest(folder))}

    return plan(config, {"name": "r", "candidate": version("2"), "champion": version("1")})


def test_a_release_from_storage_becomes_available(kube, config, made):
    name = made.obj["metadata"]["name"]
    kube.substrate.create(states.store(states.annotated(made.obj, made.annotations), made.begun(1.0)))
    status = kube.substrate.wait_ready(name)
    assert status.state == AVAILABLE and status.weights == {"v1": 90, "v2": 10}
    stored = kube.substrate.read(name)
    # nothing that a server fills in changes what is compared, so the evidence stays
    assert states.spec_hash(stored, made.stable, made.canary) == made.spec
    for predictor in stored["spec"]["predictors"]:
        own = f"-{predictor['name']}-0-model"
        (deployment,) = [d for d in kube.cluster.all("deployments") if d["metadata"]["name"].endswith(own)]
        assert follows(predictor, deployment)
    (pod,) = kube.cluster.pods_of("v2")
    (init,), (server,) = pod["spec"]["initContainers"], pod["spec"]["containers"]
    assert init["command"][:3] == ["python", "-m", "serving.fetch_bundle"]
    assert made.candidate["bundle"] in init["command"]
    assert {"name": "SEAWAY_BUNDLE", "value": "/bundle/model"} in server["env"]
    volumes = {v["name"]: v for v in pod["spec"]["volumes"]}
    assert volumes["trust"]["configMap"]["name"] == "model-key"
    for container in (init, server):
        assert str(IN_PODS.parent) in {m["mountPath"] for m in container["volumeMounts"]}
    named = [e for e in server["env"] if e["name"] == "SEAWAY_REDIS_PASSWORD"]
    assert named[0]["valueFrom"]["secretKeyRef"] == {"name": "redis", "key": "password"}
    assert bundle_check.checker(config)(stored, made.begun(1.0)) == ""
    rewritten(kube.substrate, name, lambda obj: with_traffic(obj, {"v1": 50, "v2": 50}))
    wait_for(lambda: kube.substrate.status(name).weights == {"v1": 50, "v2": 50}, what="new weights")
    rewritten(kube.substrate, name, lambda obj: with_traffic(obj, {"v2": 100}))
    uid = pod["metadata"]["uid"]
    wait_for(lambda: kube.substrate.status(name).weights == {"v2": 100}, what="the canary alone")
    assert [p["metadata"]["uid"] for p in kube.cluster.pods_of("v2")] == [uid]  # the tested pod, not a new one
