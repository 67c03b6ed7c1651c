"""Whatever stands in an object's annotations: the controller goes on with the others, and writes only at home."""

import copy
import json
import time

import pytest

from seaway.artifacts import canonical_json
from seaway.config import load
from seaway.errors import SeawayError
from serving.manifests import Predictor, seldon_deployment
from serving.rollout import rules as rules_of
from serving.rollout import state as states
from serving.rollout.controller import Controller
from serving.rollout.rules import Rules
from serving.substrate.base import Status

DEEP = "[" * 100_000


class Cluster:
    """Two objects, one of which the test damages."""

    def __init__(self, *objects):
        self.objects = {obj["metadata"]["name"]: obj for obj in objects}

    def names(self):
        return sorted(self.objects)

    def read(self, name):
        return copy.deepcopy(self.objects[name])

    def write(self, obj):
        self.objects[obj["metadata"]["name"]] = copy.deepcopy(obj)
        return obj

    def status(self, name):
        return Status(ready={"v1": True, "v2": True}, weights={"v1": 90, "v2": 10}, url="u", restarts={})

    def counters(self, name):
        return {}

    def event(self, *_, **__):
        pass


@pytest.fixture
def config(tmp_path):
    return load(overrides={"home": str(tmp_path / "deep" / "home")})


def released(config, name):
    rules = Rules.of(config.release)
    obj = seldon_deployment(name, "default", [Predictor("v1", 90, "/b/1"), Predictor("v2", 10, "/b/2")])
    obj["metadata"].update(uid=name, resourceVersion="1", generation=1)
    state = states.begin("r-2", "v1", "v2", states.spec_hash(obj, "v1", "v2"), time.time(), rules.rails)
    return states.store(states.annotated(obj, {states.RULES: canonical_json(rules.record())}), state)


def with_state(**changes):
    def damage(obj):
        found = json.loads(obj["metadata"]["annotations"][states.STATE])
        obj["metadata"]["annotations"][states.STATE] = json.dumps({**found, **changes})

    return damage


def with_rules(**changes):
    def damage(obj):
        found = json.loads(obj["metadata"]["annotations"][states.RULES])
        obj["metadata"]["annotations"][states.RULES] = json.dumps({**found, **changes})

    return damage


def annotated(key, text):
    return lambda obj: obj["metadata"]["annotations"].update({key: text})


DAMAGED = {
    "a release that climbs": with_state(release="../../evil"),
    "an absolute release": with_state(release="/tmp/evil"),
    "a release with a NUL": with_state(release="a\0b"),
    "a release that is hidden": with_state(release=".ssh"),
    "a release that is no text": with_state(release=7),
    "a time that is text": with_state(now="x"),
    "no time": with_state(now=None),
    "evidence of another shape": with_state(evidence={"errors": {"n_s": "x"}}),
    "cursors of another shape": with_state(cursors={"v1": 7}),
    "a step before the first": with_state(step=-5),
    "counts of another kind": with_state(counts={"hold": "x"}),
    "a split of another shape": with_state(split={"x": 1}),
    "state without end": annotated(states.STATE, DEEP),
    "rules without end": annotated(states.RULES, DEEP),
    "no rules": annotated(states.RULES, "{}"),
    "an empty ramp": with_rules(ramp=[]),
    "a ramp of text": with_rules(ramp=["x"]),
    "a block of text": with_rules(block="x"),
    "an unknown guardrail": with_rules(rails={"odd": {"margin": 0.1}}),
    "no predictors": lambda obj: obj["spec"].update(predictors=None),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_object_stops_neither_the_controller_nor_another_release(config, tmp_path, case):
    good, bad = released(config, "b-good"), released(config, "a-bad")
    DAMAGED[case](bad)
    before, said = copy.deepcopy(bad), []
    cluster = Cluster(bad, good)
    Controller(config, cluster, said.append).step()
    assert states.load(cluster.objects["b-good"]).blocks == 1
    assert cluster.objects["a-bad"] == before, "a damaged object is left to people"
    assert any(text.startswith("a-bad: cannot go on") for text in said), said
    written = {p.relative_to(tmp_path).parts[:2] for p in tmp_path.rglob("*") if p.is_file()}
    assert written <= {("deep", "home")}, written


def test_rules_that_no_configuration_gives_are_refused(config):
    obj = released(config, "x")
    assert rules_of.load(obj) == Rules.of(config.release)
    for changes in (
        {"alpha_promote": 5},  # would promote on no evidence at all
        {"alpha_promote": 0},
        {"alpha_rollback": "0.05"},
        {"ramp": [500]},
        {"ramp": [10, True]},
        {"cap": float("inf")},
        {"block": -1.0},
        {"mirror": 101},
        {"rails": {"errors": {"margin": 1.5}}},
        {"rails": {"errors": {"margin": 0.02, "tolerance": -1}}},
        {"rails": {"errors": {"margin": 0.02, "cluster": 0}}},
    ):
        bad = copy.deepcopy(obj)
        with_rules(**changes)(bad)
        with pytest.raises(SeawayError, match="cannot be used"):
            rules_of.load(bad)
    with pytest.raises(
        SeawayError, match=r"the section release cannot be used: ramp is \(500,\), which is out of bounds"
    ):
        Rules.of(config.release.model_copy(update={"ramp": (500,)}))
