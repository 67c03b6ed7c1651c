"""The step start: nothing on one machine; on a cluster the object is written, unless another release is under way."""

from pathlib import Path

import pytest

from components.steps import STEPS
from pipelines import start as steps
from seaway.artifacts import read_json, write_json
from seaway.config import load
from seaway.errors import NotFound, SeawayError
from serving.rollout import state as states
from tests.serving import conftest as serving

bundles = serving.bundles  # a fixture
FEATURES = Path("features of the run")
SERVING = {"substrate": "kubernetes", "namespace": "serving-test"}


class Played:
    """A substrate that keeps its objects in memory."""

    def __init__(self):
        self.objects, self.writes, self.filled = {}, 0, []

    def read(self, name):
        if name not in self.objects:
            raise NotFound(name)
        return self.objects[name]

    def create(self, obj):
        self.writes += 1
        self.objects[obj["metadata"]["name"]] = obj

    write = create

    def wait_ready(self, name, seconds):
        pass


@pytest.fixture
def asked(bundles, tmp_path, monkeypatch):
    """(config, request of version, substrate) of a cluster that only keeps objects; its ``filled``: what filled it."""
    config = load(overrides={"home": str(tmp_path / "home"), "trust": bundles.trust, "serving": SERVING})
    played, bundle = Played(), {n: str(bundles.make(f"v{n}")) for n in ("1", "2", "3")}
    monkeypatch.setattr("serving.substrate.choose.substrate_of", lambda config: played)
    fill = lambda config, features: played.filled.append(features) or {"people": 3}  # noqa: E731
    monkeypatch.setattr("serving.fill_store.fill", fill)  # its own test fills a real store

    def request(candidate, champion):
        folder = tmp_path / f"request-{candidate}"
        sides = {"candidate": candidate, "champion": champion}
        made = {k: n and {"version": n, "bundle": bundle[n], "run_id": "r"} for k, n in sides.items()}
        write_json(folder / "release.json", {"name": f"shop-{candidate}", "version": candidate, **made})
        return folder

    return config, request, played


def test_on_one_machine_a_person_starts_it(tmp_path, capsys):
    write_json(tmp_path / "release.json", {"name": "shop-2"})
    assert steps.start(load(), tmp_path, FEATURES, tmp_path / "out") == {"release": "shop-2", "started": False}
    assert "`seaway release start` replays shop-2" in capsys.readouterr().err
    assert read_json(tmp_path / "out" / "started.json")["started"] is False


def test_on_a_cluster_the_object_gets_the_candidate_once(asked, tmp_path):
    config, request, played = asked
    found = steps.start(config, request("2", "1"), FEATURES, tmp_path / "out")
    assert found["phase"] == states.RUNNING and found["namespace"] == "serving-test" and played.writes == 1
    obj = played.objects[found["object"]]
    weights = {p["name"]: p["traffic"] for p in obj["spec"]["predictors"] if not p.get("shadow")}
    assert weights == {"v1": 90, "v2": 10}
    assert (
        steps.start(config, request("2", "1"), FEATURES, tmp_path / "out") == found and played.writes == 1
    )  # tried again
    assert played.filled == [FEATURES], "what the stream of events writes afterwards stays"


def test_a_release_under_way_keeps_its_traffic(asked, tmp_path):
    config, request, played = asked
    name = steps.start(config, request("2", "1"), FEATURES, tmp_path / "out")["object"]
    before = played.objects[name]
    with pytest.raises(SeawayError, match="under the release shop-2, which has no verdict yet, so shop-3 was not"):
        steps.start(config, request("3", "1"), FEATURES, tmp_path / "out")
    assert played.objects[name] is before
    state = states.load(before)
    played.objects[name] = states.store(before, type(state)(**{**vars(state), "phase": states.ROLLED_BACK}))
    assert steps.start(config, request("3", "1"), FEATURES, tmp_path / "out")["release"] == "shop-3"


def test_a_first_version_only_has_to_serve_and_is_the_champion_then(asked, tmp_path, monkeypatch):
    config, request, _ = asked
    promoted = []
    monkeypatch.setattr(steps, "_promote", lambda config, made: promoted.append(made.candidate["version"]))
    assert steps.start(config, request("1", None), FEATURES, tmp_path / "out")["phase"] == states.PROMOTED
    assert promoted == ["1"]


def test_every_run_on_a_cluster_looks_at_the_object():
    cluster = load(overrides={"serving": SERVING})
    assert STEPS["start"].holds(cluster, {}) and not STEPS["start"].holds(load(), {})
