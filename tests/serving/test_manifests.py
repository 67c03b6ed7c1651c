from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seaway.errors import SeawayError
from serving.manifests import (
    Predictor,
    model_class,
    parameters,
    predictors,
    seldon_deployment,
    shadow,
    validate,
    weights,
    with_traffic,
)
from serving.substrate.operator.reconcile import shared


def deployment(**traffic: int) -> dict:
    return seldon_deployment("risk", "models", [Predictor(n, w, f"/bundles/{n}") for n, w in traffic.items()])


def test_a_deployment_is_what_seldon_reads():
    faulty = Predictor(
        "canary",
        10,
        "/b/2",
        {"type": "sqlite", "path": "/o.db"},
        version="2",
        parameters={"error_rate": 0.03, "shuffle_features": True, "seed": 4},
        model_class="serving.faults.FaultyModelServer",
    )
    obj = seldon_deployment("risk", "models", [Predictor("stable", 90, "/b/1"), faulty], {"note": "x"})
    assert (obj["apiVersion"], obj["kind"]) == ("machinelearning.seldon.io/v1", "SeldonDeployment")
    assert obj["metadata"]["annotations"] == {"seldon.io/no-engine": "true", "note": "x"}
    canary = obj["spec"]["predictors"][1]
    (container,) = canary["componentSpecs"][0]["spec"]["containers"]
    assert canary["graph"]["name"] == container["name"]  # Seldon joins them by name
    assert canary["labels"]["version"] == canary["annotations"]["version"] == "2"
    assert container["securityContext"]["runAsNonRoot"] is True
    assert model_class(canary) == "serving.faults.FaultyModelServer"
    assert {p["name"]: (p["value"], p["type"]) for p in canary["graph"]["parameters"]} == {
        "bundle": ("/b/2", "STRING"),
        "online_store": ('{"path": "/o.db", "type": "sqlite"}', "STRING"),
        "version": ("2", "STRING"),
        "project": ("seaway", "STRING"),
        "error_rate": ("0.03", "FLOAT"),
        "shuffle_features": ("true", "BOOL"),
        "seed": ("4", "INT"),
    }
    assert parameters(canary)["bundle"] == "/b/2"
    assert json.loads(json.dumps(obj)) == obj


def test_folders_are_mounted_read_only_but_the_prediction_logs():
    logging = Predictor("stable", 100, "/bundles/1", parameters={"log": "/answers"})
    mounts = {"/bundles": {"emptyDir": {}}, "/answers": {"persistentVolumeClaim": {"claimName": "answers"}}}
    obj = seldon_deployment("risk", "models", [logging], mounts=mounts)
    pod = obj["spec"]["predictors"][0]["componentSpecs"][0]["spec"]
    by_name = {volume["name"]: volume for volume in pod["volumes"]}
    found = {m["mountPath"]: (by_name[m["name"]], m["readOnly"]) for m in pod["containers"][0]["volumeMounts"][1:]}
    assert found["/bundles"] == ({"name": "mount-0", "emptyDir": {}}, True)
    assert found["/answers"] == ({"name": "mount-1", **mounts["/answers"]}, False)
    assert pod["securityContext"] == {"fsGroup": 8888}  # the server's user may write there


def test_new_weights_drop_whoever_is_not_named_and_leave_the_original_alone():
    obj = deployment(stable=90, canary=10)
    before = copy.deepcopy(obj)
    assert weights(with_traffic(obj, {"stable": 50, "canary": 50})) == {"stable": 50, "canary": 50}
    assert weights(with_traffic(obj, {"canary": 100})) == {"canary": 100}
    assert obj == before
    with pytest.raises(SeawayError, match="no predictor other"):
        with_traffic(obj, {"other": 100})


def shadowed(copies: int = 20, **traffic: int) -> dict:
    listed = [Predictor(n, w, f"/bundles/{n}") for n, w in traffic.items()]
    return seldon_deployment("risk", "models", [*listed, Predictor("copy", copies, "/bundles/2", shadow=True)])


def test_a_shadow_has_no_weight_and_stays_while_two_are_compared():
    obj = shadowed(stable=90, canary=10)
    assert shadow(obj) == "copy" and shadow(deployment(stable=100)) is None
    assert predictors(obj)["copy"]["shadow"] is True and "shadow" not in predictors(obj)["canary"]
    assert weights(obj) == {"stable": 90, "canary": 10}
    later = with_traffic(obj, {"stable": 5, "canary": 95})
    assert weights(later) == {"stable": 5, "canary": 95}
    assert predictors(later)["copy"]["traffic"] == 20  # the share of copies is not the ramp's
    for alone in ("stable", "canary"):
        assert list(predictors(with_traffic(obj, {alone: 100}))) == [alone]
    with pytest.raises(SeawayError, match="no predictor copy to weigh"):
        with_traffic(obj, {"stable": 80, "canary": 10, "copy": 10})


@given(st.integers(-5, 130), st.integers(-5, 110))
def test_copies_are_1_to_100_percent_and_weights_sum_without_them(copies, canary):
    obj = shadowed(stable=50, canary=50)
    for predictor, value in zip(obj["spec"]["predictors"], (100 - canary, canary, copies), strict=True):
        predictor["traffic"] = value
    if 1 <= copies <= 100 and 0 <= canary <= 100:
        validate(obj)
    else:
        with pytest.raises(SeawayError):
            validate(obj)


@given(st.lists(st.integers(-20, 120), min_size=1, max_size=4))
def test_only_weights_that_sum_to_100_pass(values):
    obj = deployment(**{f"p{i}": 100 if i == 0 else 0 for i in range(len(values))})
    for predictor, value in zip(obj["spec"]["predictors"], values, strict=True):
        predictor["traffic"] = value
    if sum(values) == 100 and min(values) >= 0:
        validate(obj)
    else:
        with pytest.raises(SeawayError):
            validate(obj)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda o: o.update(kind="Deployment"), "not a SeldonDeployment"),
        (lambda o: o["metadata"].update(name="Risk_1"), "name is 'Risk_1'"),
        (lambda o: o["metadata"].update(name=None), "name is None"),
        (lambda o: o["spec"].update(predictors=[]), "no predictors"),
        (lambda o: o["spec"]["predictors"][0].update(traffic=90.0), "not a whole number"),
        (lambda o: o["spec"]["predictors"][0].update(traffic=True), "not a whole number"),
        (lambda o: o["spec"]["predictors"][1].update(name="stable"), "same name"),
        (lambda o: o["spec"]["predictors"][1].update(shadow=True), "sums to 90"),
        (lambda o: o["spec"]["predictors"][1].update(shadow="yes"), "not true or false"),
        (lambda o: o["spec"].update(predictors=o["spec"]["predictors"] * 3), "same name"),
        (lambda o: [p.update(shadow=True) for p in o["spec"]["predictors"]], "2 shadows, stable, canary"),
        (lambda o: o["spec"].update(predictors=[o["spec"]["predictors"][1] | {"shadow": True}]), "only the shadow"),
        (lambda o: o["spec"]["predictors"][1]["graph"].update(type="ROUTER"), "single MODEL"),
    ],
)
def test_what_is_wrong_is_named(change, says):
    obj = deployment(stable=90, canary=10)
    change(obj)
    with pytest.raises(SeawayError, match=says):
        validate(obj)


@given(st.lists(st.tuples(st.integers(0, 100), st.booleans()), min_size=1, max_size=5))
def test_the_share_of_what_is_not_ready_goes_to_the_others(predictors):
    wanted = {f"p{i}": weight for i, (weight, _) in enumerate(predictors)}
    routed = {f"p{i}": f"c{i}" if ready else None for i, (_, ready) in enumerate(predictors)}
    result = shared(wanted, routed)
    able = {routed[name] for name, weight in wanted.items() if weight and routed[name]}
    assert set(result) == able
    assert sum(result.values()) == (100 if able else 0)


def test_ready_predictors_get_exactly_what_is_asked_for():
    assert shared({"a": 90, "b": 10}, {"a": "ca", "b": "cb"}) == {"ca": 90, "cb": 10}
    assert shared({"a": 90, "b": 10}, {"a": "ca", "b": None}) == {"ca": 100}
