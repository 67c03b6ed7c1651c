"""Both models on the same requests for real: servers, Envoy with a mirror, prediction logs, pairs."""

from __future__ import annotations

import json
import time
import urllib.request

import psutil
import pytest

from seaway.config import project_root
from serving import manifests
from serving.manifests import Predictor, seldon_deployment, with_traffic
from serving.rollout.rules import Rules
from serving.signals.pairs import PairFeed
from serving.substrate.local import LocalSubstrate
from tests.serving.conftest import message
from tests.serving.test_pair_feed import RULES
from tests.serving.test_substrate import counts, post, process_of

pytestmark = pytest.mark.skipif(
    not (project_root() / ".venv-serving" / "bin" / "python").exists(), reason="needs the serving environment"
)


@pytest.fixture(scope="module")
def substrate(tmp_path_factory):
    with LocalSubstrate(tmp_path_factory.mktemp("home")) as local:
        yield local


@pytest.fixture
def deployment(bundles, substrate):
    """A stable of half the requests, a canary, and a shadow of the canary that gets a share of copies."""
    names = []

    def make(name, bias, copies=100, **harm):
        def predictor(version, role, traffic, bundle, **changes):
            parameters = {"log": str(substrate.home / "answers"), **changes.pop("harm", {})}
            kind = "serving.faults.FaultyModelServer" if len(parameters) > 1 else "serving.model_server.ModelServer"
            return Predictor(
                role, traffic, bundle, bundles.store, "seaway", version, parameters, model_class=kind, **changes
            )

        names.append(name)
        old, new = bundles.make(f"{name}-1"), bundles.make(f"{name}-2", bias=bias)
        return seldon_deployment(
            name,
            "default",
            [
                predictor(f"{name}-1", "v1", 50, old),
                predictor(f"{name}-2", "v2", 50, new),
                predictor(f"{name}-2", "v2-shadow", copies, new, shadow=True, harm=harm),
            ],
        )

    yield make
    for name in names:
        substrate.delete(name)
    gone(substrate)


def gone(substrate):
    """All servers have drained and stopped."""
    deadline = time.monotonic() + 20
    while children(substrate) > 1:  # Envoy
        assert time.monotonic() < deadline
        time.sleep(0.05)


def children(substrate):
    pid = json.loads((substrate.home / "run" / "operator.json").read_text())["pid"]
    return len(psutil.Process(pid).children())


def copied(substrate, name):
    """Waits until requests are copied to the shadow; since when the logs have only what comes from now on."""
    url, started, body = substrate.status(name).url, time.time(), message()
    while not logged(substrate, name, "v2-shadow", started):
        assert time.time() < started + 40, substrate.status(name)
        post(url, body)
        time.sleep(0.1)
    time.sleep(0.1)
    return time.time()


def pairs_of(substrate, name, wanted, since=0.0, rules: Rules = RULES):
    """The readings once there are as many pairs as wanted, or none more for three seconds."""
    feed = PairFeed(substrate.home / "answers" / name, None, rules, stable=f"{name}-1", canary=f"{name}-2", since=since)
    found, deadline = feed.read(), time.monotonic() + 3
    while found["flips"]["n"] < wanted and time.monotonic() < deadline:
        time.sleep(0.1)
        before, found = found["flips"]["n"], feed.read()
        deadline = time.monotonic() + 3 if found["flips"]["n"] > before else deadline
    return found


def logged(substrate, name, predictor, since=0.0):
    files = (substrate.home / "answers" / name).glob(f"{predictor}-*.jsonl")
    lines = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    return [line for line in lines if line["t"] >= since]


def test_the_shadow_scores_what_the_stable_answers_and_callers_see_nothing_of_it(substrate, deployment, traffic):
    """Every request is copied; the models differ on all of them: the amount is 12.5, above one threshold only."""
    obj = substrate.create(deployment("both", bias=-2.0))
    url = substrate.wait_ready("both").url
    since = copied(substrate, "both")
    before = counts(substrate, "both")
    with traffic(url, 60.0) as load:
        time.sleep(4)
    assert set(load.statuses()) == {200} and set(load.versions()) == {"both-1", "both-2"}
    answered = load.versions()
    found = pairs_of(substrate, "both", answered["both-1"], since)
    assert found["flips"]["n"] == found["score_shift"]["n"] == answered["both-1"] > 60
    assert found["flips"]["sum"] == answered["both-1"]  # sigmoid(0.25) and sigmoid(-0.75)
    assert found["score_shift"]["sum"] / answered["both-1"] == pytest.approx(0.562177 - 0.320821, abs=1e-4)
    assert len(logged(substrate, "both", "v2-shadow", since)) == load.statuses().total()
    # the copies are in nobody's counts
    after = counts(substrate, "both")
    assert set(after) == {"v1", "v2"} and after["v1"].errors == after["v2"].errors == 0
    for predictor, version in (("v1", "both-1"), ("v2", "both-2")):
        assert after[predictor].requests - before[predictor].requests == answered[version]
        assert after[predictor].answered == after[predictor].requests
    # the shadow leaves with the canary
    written = substrate.write(with_traffic(obj, {"v1": 100}))
    assert manifests.shadow(written) is None
    status = substrate.wait_ready("both")
    assert status.weights == {"v1": 100} and set(status.ready) == {"v1"}
    deadline = time.monotonic() + 15
    while children(substrate) > 2:  # a server and Envoy
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_share_of_copies_is_that_share(substrate, deployment, traffic):
    substrate.create(deployment("share", bias=-1.0, copies=20))
    url = substrate.wait_ready("share").url
    since = copied(substrate, "share")
    with traffic(url, 100.0) as load:
        time.sleep(5)
    n = load.statuses().total()
    assert set(load.statuses()) == {200}
    found = pairs_of(substrate, "share", n, since)
    copies = len(logged(substrate, "share", "v2-shadow", since))
    assert abs(copies - 0.2 * n) < 4.5 * (n * 0.2 * 0.8) ** 0.5 + 2
    pairs = found["flips"]["n"]  # whom a request is copied from is independent of who answers it
    assert abs(pairs - 0.5 * copies) < 4.5 * (copies * 0.25) ** 0.5 + 2
    assert found["flips"]["sum"] == 0.0  # the same model twice
    assert found["score_shift"]["sum"] == pytest.approx(0.0, abs=1e-6)


def test_a_shadow_that_fails_is_slow_or_dies_costs_the_callers_nothing(substrate, deployment, traffic):
    """Half of its answers fail, the others are late; then it is killed, and comes back on its own."""
    substrate.create(deployment("die", bias=-2.0, error_rate=0.5, latency_ms=700.0, seed=1))
    url = substrate.wait_ready("die").url
    copied(substrate, "die")
    with traffic(url, 60.0) as load:
        time.sleep(3)
        process_of(substrate.home, "v2-shadow").kill()
        deadline = time.monotonic() + 20
        while substrate.status("die").restarts["v2-shadow"] < 1:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        killed = substrate.status("die")
        assert killed.state == "Available" and killed.weights == {"v1": 50, "v2": 50}
        while not substrate.status("die").ready["v2-shadow"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        some = pairs_of(substrate, "die", 1)["flips"]["n"]
        assert pairs_of(substrate, "die", some + 5)["flips"]["n"] >= some + 5  # mirrored to again
    assert set(load.statuses()) == {200}, load.statuses()
    seconds = sorted(s for _, _, s in load.answers)
    assert seconds[int(len(seconds) * 0.99)] < 0.5  # the shadow takes 0.7 s
    after = counts(substrate, "die")
    assert after["v1"].errors == after["v2"].errors == 0
    assert substrate.status("die").restarts == {"v1": 0, "v2": 0, "v2-shadow": 1}


def test_a_shadow_that_never_starts_holds_nothing_up(substrate, deployment, ask):
    obj = deployment("never", bias=-1.0)
    for parameter in obj["spec"]["predictors"][2]["graph"]["parameters"]:
        if parameter["name"] == "bundle":
            parameter["value"] = "/nowhere/bundle"
    obj = substrate.create(obj)
    status = substrate.wait_ready("never")
    assert status.weights == {"v1": 50, "v2": 50}
    assert status.ready == {"v1": True, "v2": True, "v2-shadow": False}
    assert "no model bundle at /nowhere/bundle" in status.message
    substrate.write(with_traffic(obj, {"v1": 10, "v2": 90}))
    assert substrate.wait_ready("never").weights == {"v1": 10, "v2": 90}
    body = json.dumps(ask() | {"meta": {"puid": "mine"}}).encode()
    request = urllib.request.Request(f"{status.url}/api/v1.0/predictions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert json.load(answer)["meta"]["puid"] == "mine"
