"""The pipeline's last step under the real Seldon operator: what it writes becomes Available and routes as asked."""

import os

import pytest

from pipelines.start import start
from seaway.artifacts import write_json
from seaway.config import load
from seaway.errors import SeawayError
from serving.rollout import state as states
from tests.contract.conftest import wait_for


@pytest.fixture
def request_of(kube, bundles, tmp_path, monkeypatch):
    """Makes (config, folder of a request) for the cluster's own namespace."""
    serving = {"substrate": "kubernetes", "namespace": kube.namespace, "image": "registry.test/serve:1"}
    config = load(overrides={"home": str(tmp_path / "home"), "trust": bundles.trust, "serving": serving})
    monkeypatch.setattr("seaway.kube_api.Api", lambda context: kube.cluster.api)
    monkeypatch.setattr("serving.fill_store.fill", lambda config, features: {})  # its own test fills a real store

    def make(candidate, champion):
        sides = {"candidate": candidate, "champion": champion}
        made = {k: n and {"version": n, "bundle": str(bundles.make(f"v{n}")), "run_id": "r"} for k, n in sides.items()}
        write_json(tmp_path / candidate / "release.json", {"name": f"shop-{candidate}", "version": candidate, **made})
        return config, tmp_path / candidate

    return make


@pytest.mark.skipif(not os.environ.get("SEAWAY_KUBECONFIG"), reason="SEAWAY_KUBECONFIG names no cluster")
def test_the_canary_becomes_available_and_gets_its_share(kube, request_of, tmp_path):
    config, folder = request_of("2", "1")
    found = start(config, folder, tmp_path, tmp_path / "out")
    name, cluster = found["object"], kube.cluster
    assert found["phase"] == states.RUNNING
    wait_for(lambda: cluster.state(name) == "Available", 30, "Available")
    wait_for(lambda: kube.substrate.status(name).weights == {"v1": 90, "v2": 10}, 30, "the weights")
    http = cluster.api.get(cluster.path("virtualservices", name))["spec"]["http"][0]
    assert sorted(r["weight"] for r in http["route"]) == [10, 90]
    before = kube.substrate.read(name)
    assert start(config, folder, tmp_path, tmp_path / "out") == found  # tried again, it goes on from there
    assert states.load(kube.substrate.read(name)) == states.load(before)
    with pytest.raises(SeawayError, match="no verdict yet"):
        start(*request_of("3", "1"), tmp_path, tmp_path / "out")
    assert kube.substrate.status(name).weights == {"v1": 90, "v2": 10}
