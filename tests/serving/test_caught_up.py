"""The registry follows a verdict that was reached on a cluster while nobody watched."""

from dataclasses import replace

import pytest

from seaway.artifacts import canonical_json, content_hash, write_json
from seaway.config import load
from seaway.errors import NotFound
from seaway.registry import CANDIDATE, CHAMPION, RELEASED, Registry
from serving import manifests
from serving.caught_up import behind, catch_up
from serving.rollout import state as states
from serving.rollout.rules import Rules
from serving.rollout.state import PROMOTED, ROLLED_BACK, RUNNING


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return load(overrides={"home": str(tmp_path_factory.mktemp("home"))})


@pytest.fixture
def version(config, tmp_path):
    return candidate(config, tmp_path / "model")


def candidate(config, folder):
    """A new candidate in the registry; its version."""
    write_json(folder / "model.json", {"name": str(folder)})
    registry = Registry.of(config)
    made = registry.register(folder, content_hash(folder), params={}, metrics={}, tags={}, identity={})
    registry.nominate(made.version)
    return made.version


class Place:
    """What a cluster holds: one object, or none."""

    def __init__(self, obj=None):
        self.obj = obj

    def read(self, name):
        if self.obj is None:
            raise NotFound(f"no {name}")
        return self.obj


def released(config, version, phase, **what):
    predictors = [manifests.Predictor("v0", 90, "/b/1"), manifests.Predictor(f"v{version}", 10, "/b/2")]
    obj = manifests.seldon_deployment(config.workload.name, "default", predictors)
    rules = Rules.of(config.release)
    state = states.begin(f"shop-{version}", "v0", f"v{version}", "spec", 1.0, rules.rails)
    told = {"version": version, "bundle": "b" * 64, **what}
    return Place(
        states.store(states.annotated(obj, {states.CANDIDATE: canonical_json(told)}), replace(state, phase=phase))
    )


def test_a_promotion_makes_the_champion_once(config, version):
    place, told = released(config, version, PROMOTED), []
    assert catch_up(config, substrate=place, on_event=told.append) == PROMOTED
    champion = Registry.of(config).get(CHAMPION)
    assert (champion.version, champion.tags[RELEASED]) == (version, "b" * 64)
    assert "the registry follows" in told[0]
    assert catch_up(config, substrate=place, on_event=told.append) is None and len(told) == 1


def test_a_version_that_is_promoted_again_is_the_champion_again(config, tmp_path):
    one, two = candidate(config, tmp_path / "one"), candidate(config, tmp_path / "two")
    for version in (one, two, one):
        place = released(config, version, PROMOTED)
        assert catch_up(config, substrate=place) == PROMOTED
        assert Registry.of(config).get(CHAMPION).version == version
        assert catch_up(config, substrate=place) is None


@pytest.mark.parametrize("phase", [PROMOTED, ROLLED_BACK])
def test_a_look_says_what_would_follow_and_writes_nothing(config, version, phase):
    place, before = released(config, version, phase), Registry.of(config).find(CHAMPION)
    for _ in range(2):
        found = behind(config, substrate=place)
        assert (found.version, found.phase, found.bundle) == (version, phase, "b" * 64)
    assert Registry.of(config).get(CANDIDATE).version == version
    assert Registry.of(config).find(CHAMPION) == before
    catch_up(config, substrate=place)
    assert behind(config, substrate=place) is None


def test_a_rollback_ends_the_candidacy(config, version):
    assert catch_up(config, substrate=released(config, version, ROLLED_BACK)) == ROLLED_BACK
    assert Registry.of(config).find(CANDIDATE) is None


@pytest.mark.parametrize(("phase", "what"), [(RUNNING, {}), (PROMOTED, {"faults": {"error_rate": 1}})])
def test_what_is_under_way_or_harmed_on_purpose_changes_nothing(config, version, phase, what):
    assert catch_up(config, substrate=released(config, version, phase, **what)) is None
    assert Registry.of(config).get(CANDIDATE).version == version


def test_without_an_object_there_is_nothing_to_follow(config):
    assert catch_up(config, substrate=Place()) is None
    assert catch_up(config) is None, "one machine concludes its releases itself"
