"""What every substrate must do; the release loop relies on nothing else."""

from __future__ import annotations

import copy
import threading
import time
import uuid

import pytest

from seaway.errors import SeawayError
from serving.manifests import with_traffic
from serving.rollout.state import STATE, annotated, spec_hash
from serving.substrate.base import AVAILABLE, Conflict, NotFound
from serving.substrate.kubernetes import KubernetesSubstrate
from tests.contract.conftest import rewritten, wait_for


@pytest.fixture
def name(rig):
    name = f"r{uuid.uuid4().hex[:8]}"
    yield name
    rig.substrate.delete(name)


def test_an_object_is_made_once_read_and_removed(rig, name):
    with pytest.raises(NotFound):
        rig.substrate.read(name)
    with pytest.raises(NotFound):
        rig.substrate.status(name)
    asked = rig.deployment(name, rig.predictor("v1", 100), annotations={"note": "x" * 60_000})
    made = rig.substrate.create(asked)
    assert made["metadata"]["uid"] and made["metadata"]["resourceVersion"] and made["metadata"]["generation"] == 1
    found = rig.substrate.read(name)
    assert found["spec"] == asked["spec"]
    assert found["metadata"]["annotations"] == asked["metadata"]["annotations"]
    assert found["metadata"]["uid"] == made["metadata"]["uid"]
    with pytest.raises(Conflict, match="exists already"):
        rig.substrate.create(asked)
    rig.substrate.delete(name)
    with pytest.raises(NotFound):
        rig.substrate.read(name)
    rig.substrate.delete(name)


def test_a_write_needs_the_version_that_was_read(rig, name):
    asked = rig.deployment(name, rig.predictor("v1", 100))
    rig.substrate.create(asked)
    rig.substrate.wait_ready(name)
    time.sleep(1)  # after this only we write
    first = rig.substrate.read(name)
    mine, theirs = copy.deepcopy(first), annotated(first, {"who": "they"})
    second = rig.substrate.write(theirs)
    assert second["metadata"]["generation"] == first["metadata"]["generation"]  # only the spec counts
    assert second["metadata"]["resourceVersion"] != first["metadata"]["resourceVersion"]
    with pytest.raises(Conflict):
        rig.substrate.write(annotated(mine, {"who": "we"}))
    assert rig.substrate.read(name)["metadata"]["annotations"]["who"] == "they"
    unversioned = copy.deepcopy(second)
    del unversioned["metadata"]["resourceVersion"]
    with pytest.raises(Conflict):
        rig.substrate.write(unversioned)
    assert rig.substrate.write(second)["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]
    rig.substrate.delete(name)
    with pytest.raises(NotFound):
        rig.substrate.write(second)
    again = rig.substrate.create(asked)
    assert again["metadata"]["uid"] != first["metadata"]["uid"]
    with pytest.raises(Conflict):  # the same name is not the same object
        rig.substrate.write(second)


@pytest.mark.parametrize(("main", "canary"), [(90, 20), (-10, 110), (110, -10), (99.5, 0.5)])
def test_weights_that_are_no_share_are_refused_before_anyone_sees_them(rig, name, main, canary):
    made = rig.substrate.create(rig.deployment(name, rig.predictor("v1", 100)))
    wrong = rig.added(made, rig.predictor("v2", 0))
    wrong["spec"]["predictors"][0]["traffic"], wrong["spec"]["predictors"][1]["traffic"] = main, canary
    with pytest.raises(SeawayError, match=r"sums to 110|whole number"):
        rig.substrate.write(wrong)
    assert rig.substrate.read(name)["spec"] == made["spec"]


def test_no_update_is_lost_between_writers(rig, name):
    rig.substrate.create(rig.deployment(name, rig.predictor("v1", 100), annotations={"count": "0"}))

    def add():
        done = 0
        while done < 5:
            obj = rig.substrate.read(name)
            try:
                rig.substrate.write(annotated(obj, {"count": str(int(obj["metadata"]["annotations"]["count"]) + 1)}))
                done += 1
            except Conflict:
                pass

    writers = [threading.Thread(target=add) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert rig.substrate.read(name)["metadata"]["annotations"]["count"] == "20"


def test_weights_follow_the_object_and_a_removed_predictor_is_gone(rig, name):
    rig.substrate.create(rig.deployment(name, rig.predictor("v1", 100)))
    status = rig.substrate.wait_ready(name)
    assert (status.weights, status.ready, status.state) == ({"v1": 100}, {"v1": True}, AVAILABLE)
    obj = rig.substrate.read(name)
    before = spec_hash(obj, "v1")
    obj = rewritten(rig.substrate, name, lambda obj: rig.added(obj, rig.predictor("v2", 10), 10))
    assert obj["metadata"]["generation"] == 2
    status = rig.substrate.wait_ready(name)
    assert (status.weights, status.ready) == ({"v1": 90, "v2": 10}, {"v1": True, "v2": True})
    assert status.generation == 2 and status.restarts == {"v1": 0, "v2": 0}
    both = spec_hash(rig.substrate.read(name), "v1", "v2")
    rewritten(rig.substrate, name, lambda obj: with_traffic(obj, {"v1": 50, "v2": 50}))
    assert rig.substrate.wait_ready(name).weights == {"v1": 50, "v2": 50}
    obj = rig.substrate.read(name)
    assert spec_hash(obj, "v1", "v2") == both and spec_hash(obj, "v1") == before
    rewritten(rig.substrate, name, lambda obj: with_traffic(obj, {"v1": 100}))
    status = rig.substrate.wait_ready(name)
    assert (status.weights, status.ready) == ({"v1": 100}, {"v1": True})


def test_a_shadow_is_neither_weighed_nor_counted(rig, name):
    shadow = rig.predictor("v2-shadow", 40, shadow=True)
    rig.substrate.create(rig.deployment(name, rig.predictor("v1", 90), rig.predictor("v2", 10), shadow))
    status = rig.substrate.wait_ready(name)
    assert status.weights == {"v1": 90, "v2": 10}
    wait_for(lambda: rig.substrate.status(name).ready == {"v1": True, "v2": True, "v2-shadow": True})
    if rig.cluster:
        rig.substrate.signals = _Nothing()
    assert set(rig.substrate.counters(name)) == {"v1", "v2"}
    rewritten(rig.substrate, name, lambda obj: with_traffic(obj, {"v1": 100}))
    assert rig.substrate.wait_ready(name).ready == {"v1": True}


class _Nothing:
    url = ""

    def counters(self, namespace, services, pods):
        return {predictor: {} for predictor in services}


def test_only_objects_under_a_rollout_are_named(rig, name):
    rig.substrate.create(rig.deployment(name, rig.predictor("v1", 100)))
    assert name not in rig.substrate.names()
    rewritten(rig.substrate, name, lambda obj: annotated(obj, {STATE: "{}"}))
    assert name in rig.substrate.names()


def test_an_event_is_said_where_people_look_and_never_fails(rig, name):
    rig.substrate.create(rig.deployment(name, rig.predictor("v1", 100)))
    rig.substrate.event(name, "RolledBack", "errors of v2: 3 % against 0.5 %", warning=True)
    rig.substrate.event(name, "Ramped", "v2 gets 25 %")
    assert set(rig.events(name)) == {
        ("Warning", "RolledBack", "errors of v2: 3 % against 0.5 %"),
        ("Normal", "Ramped", "v2 gets 25 %"),
    }
    rig.substrate.event("nobody", "Ramped", "there is no such object")
    if rig.cluster:
        from seaway.kube_api import Api

        KubernetesSubstrate(Api(kubeconfig="/nowhere"), "x").event(name, "Ramped", "there is no such cluster")
