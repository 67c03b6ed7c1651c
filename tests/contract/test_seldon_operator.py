"""What the real Seldon operator does, which decides how a release is rolled back and what is believed of it."""

from __future__ import annotations

import time

import pytest

from seaway.errors import SeawayError
from seaway.kube_api import Unavailable
from serving.manifests import with_traffic
from serving.rollout.state import annotated, spec_hash
from serving.substrate.base import AVAILABLE, CREATING, FAILED
from tests.contract.conftest import rewritten, wait_for

NOWHERE = {"nodeSelector": {"kubernetes.io/hostname": "nowhere"}}
BLOCKED = 2.0  # seconds; a change that is not blocked is carried out in a tenth of one


def released(kube, main=90, **changes):
    """main and canary, both ready, at main/100 - main; the object."""
    kube.substrate.create(
        kube.deployment(
            "shop", kube.predictor("main", main, **changes), kube.predictor("canary", 100 - main, **changes)
        )
    )
    kube.substrate.wait_ready("shop")
    return kube.substrate.read("shop")


def write(kube, traffic, change=lambda obj: None):
    def changed(obj):
        obj = with_traffic(obj, traffic)
        change(obj)
        return obj

    return rewritten(kube.substrate, "shop", changed)


def routed(kube):
    return kube.substrate.status("shop").weights


def broken(obj, index=-1):
    """The predictor's next pods find no node."""
    obj["spec"]["predictors"][index]["componentSpecs"][0]["spec"].update(NOWHERE)


def stays(kube, weights, seconds=BLOCKED):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert routed(kube) == weights
        time.sleep(0.1)


def test_a_broken_canary_keeps_its_share_at_weight_nought_and_loses_it_when_removed(kube):
    released(kube)
    kube.cluster.unready("canary")
    wait_for(lambda: not kube.substrate.status("shop").ready["canary"])
    write(kube, {"main": 100, "canary": 0})
    stays(kube, {"main": 90, "canary": 10})
    status = kube.substrate.status("shop")
    assert status.state == CREATING and status.ready == {"main": True, "canary": False}
    assert "only while all predictors are ready" in status.message and "canary is not ready" in status.message
    write(kube, {"main": 100})
    wait_for(lambda: routed(kube) == {"main": 100}, 5, "main at 100")
    assert kube.substrate.wait_ready("shop").state == AVAILABLE
    wait_for(lambda: not kube.cluster.pods_of("canary"), what="the end of the canary's pods")


def test_a_canary_that_rolls_badly_loses_its_share_only_when_removed(kube):
    released(kube)
    write(kube, {"main": 90, "canary": 10}, broken)
    wait_for(lambda: len(kube.cluster.pods_of("canary")) == 2, what="the pod that finds no node")
    wait_for(lambda: kube.cluster.state("shop") == "Creating", what="Creating")
    write(kube, {"main": 100, "canary": 0})
    stays(kube, {"main": 90, "canary": 10})
    write(kube, {"main": 100})
    wait_for(lambda: routed(kube) == {"main": 100}, 5, "main at 100")


def test_even_the_removal_waits_for_main(kube):
    released(kube)
    kube.cluster.unready("main")
    wait_for(lambda: not kube.substrate.status("shop").ready["main"])
    write(kube, {"main": 100})
    stays(kube, {"main": 90, "canary": 10})
    assert "main is not ready" in kube.substrate.status("shop").message
    for pod in kube.cluster.pods_of("main"):
        kube.cluster.api.delete(kube.cluster.path("pods", pod["metadata"]["name"]))  # its successor is ready
    wait_for(lambda: routed(kube) == {"main": 100}, 10, "main at 100")


def test_available_says_nothing_of_the_newest_spec(kube):
    """It stays readable after a change; ours does not, because Deployments and weights are looked at."""
    released(kube)
    seen = []
    for turn in range(10):
        obj = kube.substrate.read("shop")
        for predictor in obj["spec"]["predictors"]:
            predictor["componentSpecs"][0]["spec"]["containers"][0]["image"] = f"seaway-serve:{turn}"
        try:
            kube.substrate.write(obj)
        except SeawayError:  # the operator wrote its status meanwhile
            continue
        seen.append((kube.cluster.state("shop"), kube.substrate.status("shop").state))
        kube.substrate.wait_ready("shop")
        images = {
            container["image"]
            for deployment in kube.cluster.all("deployments")
            for container in deployment["spec"]["template"]["spec"]["containers"]
        }
        assert images == {f"seaway-serve:{turn}"}
        if ("Available", CREATING) in seen:
            return
    raise AssertionError(f"Available was never readable after a change: {seen}")


def test_traffic_is_as_the_virtual_service_says_not_as_available_says(kube):
    obj = released(kube)
    kube.cluster.unready("canary")
    wait_for(lambda: kube.cluster.state("shop") == "Creating", what="Creating")
    write(kube, {"main": 50, "canary": 50})
    assert kube.substrate.read("shop")["metadata"]["generation"] > obj["metadata"]["generation"]
    status = kube.substrate.status("shop")
    assert status.weights == {"main": 90, "canary": 10} and status.generation < 3
    with pytest.raises(SeawayError, match="not ready after 1 s: predictor canary is not ready"):
        kube.substrate.wait_ready("shop", 1)


def test_the_webhook_lets_a_negative_weight_through_and_we_do_not(kube):
    def raw(main, canary):
        while True:
            obj = kube.cluster.api.get(kube.cluster.path("seldondeployments", "shop"))
            obj["spec"]["predictors"][0]["traffic"], obj["spec"]["predictors"][1]["traffic"] = main, canary
            try:
                return kube.cluster.api.replace(kube.cluster.path("seldondeployments", "shop"), obj)
            except SeawayError as error:
                if "changed by someone else" not in str(error):  # the operator writes its status meanwhile
                    raise

    released(kube)
    with pytest.raises(SeawayError, match="Traffic must sum to 100"):
        raw(90, 20)
    raw(-10, 110)
    wait_for(lambda: routed(kube) == {"main": -10, "canary": 110}, 5, "what was accepted")
    held = kube.substrate.read("shop")
    with pytest.raises(SeawayError, match="traffic -10 is not a whole number"):
        kube.substrate.write(held)
    write(kube, {"main": 90, "canary": 10})
    wait_for(lambda: routed(kube) == {"main": 90, "canary": 10}, 5, "sound weights")


def test_hand_edits_of_the_virtual_service_heal(kube):
    released(kube)
    path = kube.cluster.path("virtualservices", "shop")
    service = kube.cluster.api.get(path)
    for http in service["spec"]["http"]:
        http["route"][0]["weight"], http["route"][1]["weight"] = 0, 100
    kube.cluster.api.replace(path, service)
    wait_for(lambda: routed(kube) == {"main": 90, "canary": 10}, 10, "the asked weights")
    kube.cluster.api.delete(path)
    wait_for(lambda: routed(kube) == {"main": 90, "canary": 10}, 10, "the asked weights")


def test_a_canary_that_is_not_ready_yet_gets_nothing(kube):
    kube.substrate.create(kube.deployment("shop", kube.predictor("main", 100)))
    kube.substrate.wait_ready("shop")

    def adding(obj):
        obj = kube.added(obj, kube.predictor("canary", 10), 10)
        broken(obj)
        return obj

    rewritten(kube.substrate, "shop", adding)
    wait_for(lambda: kube.cluster.pods_of("canary"), what="the canary's pod")
    stays(kube, {"main": 100})
    status = wait_for(lambda: _with(kube.substrate.status("shop"), "Unschedulable"), what="the reason")
    assert status.ready == {"main": True, "canary": False}

    def placed(obj):
        del obj["spec"]["predictors"][1]["componentSpecs"][0]["spec"]["nodeSelector"]
        return obj

    rewritten(kube.substrate, "shop", placed)
    assert kube.substrate.wait_ready("shop").weights == {"main": 90, "canary": 10}


def _with(status, word):
    return status if word in status.message else None


def test_a_shadow_becomes_a_mirror(kube):
    made = kube.substrate.create(
        kube.deployment(
            "shop",
            kube.predictor("main", 90),
            kube.predictor("canary", 10),
            kube.predictor("canary-shadow", 30, shadow=True),
        )
    )
    status = kube.substrate.wait_ready("shop")
    assert status.weights == {"main": 90, "canary": 10} and status.ready["canary-shadow"]
    http = kube.cluster.api.get(kube.cluster.path("virtualservices", "shop"))["spec"]["http"][0]
    assert http["mirror"]["host"].startswith("shop-canary-shadow.") and http["mirrorPercentage"]["value"] == 30
    assert len(http["route"]) == 2
    assert spec_hash(kube.substrate.read("shop"), "main", "canary") == spec_hash(made, "main", "canary")
    write(kube, {"main": 100})
    kube.substrate.wait_ready("shop")
    http = kube.cluster.api.get(kube.cluster.path("virtualservices", "shop"))["spec"]["http"][0]
    assert "mirror" not in http and len(http["route"]) == 1


def test_a_broken_shadow_blocks_every_change_of_weights_but_not_its_own_removal(kube):
    shadow = kube.predictor("canary-shadow", 30, shadow=True)
    made = kube.deployment("shop", kube.predictor("main", 90), kube.predictor("canary", 10), shadow)
    kube.substrate.create(made)
    kube.substrate.wait_ready("shop")
    wait_for(lambda: kube.substrate.status("shop").ready["canary-shadow"])
    kube.cluster.unready("canary-shadow")
    wait_for(lambda: not kube.substrate.status("shop").ready["canary-shadow"])
    assert kube.substrate.status("shop").state == AVAILABLE  # for callers
    write(kube, {"main": 75, "canary": 25})
    stays(kube, {"main": 90, "canary": 10}, 1.0)
    assert kube.substrate.status("shop").state == CREATING
    write(kube, {"main": 100})
    wait_for(lambda: routed(kube) == {"main": 100}, 5, "main at 100")


def test_no_change_of_a_release_rolls_a_pod_that_stays(kube):
    """Seldon numbers metrics ports by place, so a predictor that names none is rolled when the first one goes."""

    def pods(predictor):
        return {pod["metadata"]["uid"] for pod in kube.cluster.pods_of(predictor)}

    released(kube)
    both = pods("main") | pods("canary")
    write(kube, {"main": 50, "canary": 50})
    kube.substrate.wait_ready("shop")
    assert pods("main") | pods("canary") == both
    tested = pods("canary")
    write(kube, {"canary": 100})
    kube.substrate.wait_ready("shop")
    rewritten(kube.substrate, "shop", lambda obj: kube.added(obj, kube.predictor("next", 10), 10))
    kube.substrate.wait_ready("shop")
    write(kube, {"canary": 100})
    kube.substrate.wait_ready("shop")
    time.sleep(0.5)
    assert pods("canary") == tested

    def unnamed(obj):
        obj = kube.added(obj, kube.predictor("next", 10), 10)
        for predictor in obj["spec"]["predictors"]:
            del predictor["componentSpecs"][0]["spec"]["containers"][0]["ports"]
        return obj

    rewritten(kube.substrate, "shop", unnamed)
    kube.substrate.wait_ready("shop")
    tested = pods("next")
    write(kube, {"next": 100})
    wait_for(lambda: pods("next") and not pods("next") & tested, what="the roll that a fixed port prevents")


def test_a_predictor_past_its_deadline_without_a_pod_has_failed(kube):
    made = kube.deployment("shop", kube.predictor("main", 100))
    broken(made)
    made["spec"]["predictors"][0]["progressDeadlineSeconds"] = 1
    kube.substrate.create(made)
    with pytest.raises(SeawayError, match=r"cannot be served: predictor main is not ready: pod .* Unschedulable"):
        kube.substrate.wait_ready("shop", 30)
    wait_for(lambda: kube.substrate.status("shop").state == FAILED)


def test_what_servers_fill_in_is_no_change_of_the_release(kube):
    """The hash of what was asked for is the same before it was sent, after, when ready, and passed through Go."""
    asked = kube.deployment("shop", kube.predictor("main", 90), kube.predictor("canary", 10))
    asked["spec"]["predictors"][0]["componentSpecs"][0]["spec"]["containers"][0]["ports"] = [
        {"name": "more", "containerPort": 9100}
    ]
    before = spec_hash(asked, "main", "canary")
    assert spec_hash(kube.substrate.create(asked), "main", "canary") == before
    kube.substrate.wait_ready("shop")
    stored = kube.cluster.api.get(kube.cluster.path("seldondeployments", "shop"))
    assert stored["status"] and spec_hash(stored, "main", "canary") != before  # the definition fills in a protocol
    assert spec_hash(kube.substrate.read("shop"), "main", "canary") == before
    for predictor in stored["spec"]["predictors"]:  # as a client with typed objects writes it back
        predictor |= {"engineResources": {}, "svcOrchSpec": {}}
        predictor["componentSpecs"][0]["metadata"] = {"creationTimestamp": None}
    kube.cluster.api.patch(kube.cluster.path("seldondeployments", "shop"), {"spec": stored["spec"]})
    assert "engineResources" in str(kube.cluster.api.get(kube.cluster.path("seldondeployments", "shop")))
    assert spec_hash(kube.substrate.read("shop"), "main", "canary") == before

    def other(obj):
        obj["spec"]["predictors"][1]["componentSpecs"][0]["spec"]["containers"][0]["image"] = "other:1"
        return obj

    rewritten(kube.substrate, "shop", other)
    assert spec_hash(kube.substrate.read("shop"), "main", "canary") != before


def test_the_same_event_counts_up_and_describes_the_object(kube):
    released(kube)
    for _ in range(3):
        kube.substrate.event("shop", "Held", "no data from canary", warning=True)
    type(kube.substrate)(kube.cluster.api, kube.namespace).event("shop", "Held", "no data from canary", warning=True)
    events = [e for e in kube.cluster.all("events") if e["reason"] == "Held"]
    assert len(events) == 1 and events[0]["count"] == 4
    uid = kube.substrate.read("shop")["metadata"]["uid"]
    assert events[0]["involvedObject"]["uid"] == uid and events[0]["type"] == "Warning"


def test_of_several_controllers_one_holds_the_lease_until_it_is_gone(kube):
    first, second = kube.substrate.lease("controller", "a", 1), kube.substrate.lease("controller", "b", 1)
    assert first.hold() and first.hold() and not second.hold()
    time.sleep(0.6)
    assert first.hold() and not second.hold()
    time.sleep(0.6)
    assert not second.hold()  # renewed meanwhile
    time.sleep(1.1)
    assert second.hold() and not first.hold()  # a was killed: its record did not change for a second
    second.release()
    assert first.hold()


def test_without_its_webhook_nothing_is_written_and_nothing_is_lost(kube, operator_switch):
    down, up = operator_switch
    released(kube)
    pods = {pod["metadata"]["uid"] for pod in kube.cluster.all("pods")}
    down()
    held = kube.substrate.read("shop")
    for change in (with_traffic(held, {"main": 50, "canary": 50}), annotated(held, {"note": "x"})):
        with pytest.raises(Unavailable, match=r"nothing was written: the webhook .* does not answer"):
            kube.substrate.write(change)
    with pytest.raises(Unavailable, match="the webhook"):
        kube.substrate.create(kube.deployment("other", kube.predictor("main", 100)))
    assert kube.substrate.read("shop") == held
    assert kube.substrate.status("shop").state == AVAILABLE
    up()
    wait_for(lambda: _written(kube, with_traffic(kube.substrate.read("shop"), {"main": 50, "canary": 50})))
    assert kube.substrate.wait_ready("shop").weights == {"main": 50, "canary": 50}
    assert {pod["metadata"]["uid"] for pod in kube.cluster.all("pods")} == pods  # no pod was rolled


def _written(kube, obj):
    try:
        return kube.substrate.write(obj)
    except SeawayError:
        return None
