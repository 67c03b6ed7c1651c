"""What the controller shows Prometheus, of a real rollout's objects."""

import subprocess
import time
from dataclasses import replace
from shutil import which

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from serving import manifests
from serving.rollout import state as states
from serving.rollout.gauges import Gauges
from tests.serving.rollout_world import RULES


@pytest.fixture
def released():
    listed = [manifests.Predictor("v1", 90, "/bundles/1"), manifests.Predictor("v2", 10, "/bundles/2")]
    obj = manifests.seldon_deployment("shop", "default", listed)
    return obj, states.begin("shop-2", "v1", "v2", states.spec_hash(obj, "v1", "v2"), time.time(), RULES.rails)


def page(gauges):
    registry = CollectorRegistry()
    registry.register(gauges)
    return generate_latest(registry).decode()


def series(gauges, name):
    found = {}
    for family in text_string_to_metric_families(page(gauges)):
        for sample in family.samples:
            if sample.name == name:
                found[tuple(sorted(sample.labels.values()))] = sample.value
    return found


def test_a_release_under_way_has_weights_evidence_and_what_is_left(released):
    gauges = Gauges()
    gauges.note("shop", *released, RULES)
    assert series(gauges, "seaway_release_weight") == {("shop", "v1"): 90, ("shop", "v2"): 10}
    assert series(gauges, "seaway_release_phase") == {("running", "shop"): 1}
    assert series(gauges, "seaway_release_left_seconds") == {("shop",): RULES.cap}
    evidence = series(gauges, "seaway_release_log_e")
    assert {labels for labels in evidence if "promote" in labels} == {
        tuple(sorted(("shop", "promote", name))) for name in RULES.rails
    }
    limits = series(gauges, "seaway_release_log_e_threshold")
    assert limits[("promote", "shop")] == pytest.approx(RULES.promote_at)


def test_a_decided_release_keeps_its_phase_alone_and_a_gone_one_nothing(released):
    obj, state = released
    gauges = Gauges()
    gauges.note("shop", obj, replace(state, phase=states.ROLLED_BACK), RULES)
    assert series(gauges, "seaway_release_phase") == {("rolled back", "shop"): 1}
    assert not series(gauges, "seaway_release_log_e") and not series(gauges, "seaway_release_left_seconds")
    gauges.round([])
    assert not series(gauges, "seaway_release_phase")


def test_rounds_and_failures_are_counted(released):
    gauges = Gauges()
    before = gauges.at
    gauges.round(["shop"])
    gauges.failed()
    assert series(gauges, "seaway_controller_steps_total") == {(): 1}
    assert series(gauges, "seaway_controller_failures_total") == {(): 1}
    assert series(gauges, "seaway_controller_seen_timestamp_seconds")[()] >= before


@pytest.mark.skipif(not which("promtool"), reason="promtool is not on PATH")
def test_prometheus_finds_nothing_to_complain_of(released):
    gauges = Gauges()
    gauges.note("shop", *released, RULES)
    said = subprocess.run(
        ["promtool", "check", "metrics"], input=page(gauges), capture_output=True, text=True, timeout=60
    )
    assert said.returncode == 0, said.stdout + said.stderr
