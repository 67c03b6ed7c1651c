"""The release verb against a cluster: it writes the object once and follows the controller that is there."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from seaway.config import load
from seaway.keys import public_key
from seaway.signing import Seal
from serving import manifests
from serving.controller_manifests import controller
from serving.release_follow import follow
from serving.release_plan import Plan
from serving.rollout import state as states
from serving.rollout.journal import Journal
from tests.contract.test_controller_in_cluster import account, apply
from tests.contract.test_controller_process import FakePrometheus, spawn
from tests.serving.rollout_world import RULES


@pytest.fixture
def plans(kube, bundles, tmp_path):
    """Makes plans as serving.release_plan does, from versions that need no registry."""
    config = load("local", overrides={"home": str(tmp_path)})
    rules = dataclasses.replace(RULES, block=0.3)

    def version(number):
        return {"version": number, "bundle": bundles.make(f"v{number}"), "run_id": f"run-{number}"}

    def predictor(found, traffic):
        trusted = {"digest": Seal(config).sign(Path(found["bundle"])), "public_key": str(public_key(config))}
        made = kube.predictor(f"v{found['version']}", traffic, parameters=trusted)
        return dataclasses.replace(made, bundle=found["bundle"], version=found["version"])

    def make(candidate, champion=None):
        candidate, champion = version(candidate), version(champion) if champion else None
        listed = [predictor(champion, 90)] if champion else []
        listed.append(predictor(candidate, 10 if champion else 100))
        obj = manifests.seldon_deployment("shop", kube.namespace, listed)
        name = f"shop-{candidate['version']}"
        return Plan(name, "shop", candidate, champion, {}, tmp_path / "releases" / name, {}, obj, rules)

    return make


def test_two_releases_one_after_the_other(kube, kubeconfig, plans, tmp_path):
    said = []
    state = follow(kube.substrate, plans("1"), said.append)
    assert state.phase == states.PROMOTED and kube.substrate.wait_ready("shop").weights == {"v1": 100}
    apply(kube.cluster, controller("seaway-controller:dev", kube.namespace))
    account(kube.cluster, kubeconfig, tmp_path)
    plan = plans("2", "1")
    with FakePrometheus(kube, "shop", rate=300) as fake:
        child = spawn(tmp_path, kube.namespace, fake.url)
        try:
            state = follow(kube.substrate, plan, said.append)
        finally:
            child.kill()
            child.wait()
    assert state.phase == states.PROMOTED, (said, (tmp_path / "log").read_text())
    assert kube.substrate.wait_ready("shop").weights == {"v2": 100}
    weights = Journal(plan.folder / "journal.jsonl").read()["weights"]
    assert weights[0]["canary"] == 10 and weights[-1]["canary"] == 100
