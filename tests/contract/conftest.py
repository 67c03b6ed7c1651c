"""Both substrates for one suite: processes on this machine, and a cluster with the real Seldon operator.

SEAWAY_KUBECONFIG names a kubeconfig of a cluster that may be used up for tests, with the Seldon Core v1
operator and Istio's definitions; without it the tests that need one skip. SEAWAY_SELDON_DOWN and
SEAWAY_SELDON_UP are shell commands that end and start the operator's process, its webhook staying configured.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import os
import subprocess
import time
import uuid
from pathlib import Path

import pytest

from seaway.kube_api import Api
from serving import manifests
from serving.manifests import Predictor
from serving.substrate.base import Conflict, Counters
from serving.substrate.kubernetes import KubernetesSubstrate
from serving.substrate.local import LocalSubstrate
from tests.serving import conftest as serving

bundles = serving.bundles  # a fixture
SDEPS = "/apis/machinelearning.seldon.io/v1"


class Cluster:
    """A namespace of its own in a real cluster; ``api`` is the test's own account (an administrator's)."""

    def __init__(self, api: Api):
        self.api, self.namespace = api, f"seaway-{uuid.uuid4().hex[:10]}"
        self.api.create("/api/v1/namespaces", {"metadata": {"name": self.namespace}})

    def close(self):
        self.api.delete(f"/api/v1/namespaces/{self.namespace}")

    def path(self, kind, name=""):
        group = {
            "pods": "/api/v1",
            "events": "/api/v1",
            "deployments": "/apis/apps/v1",
            "virtualservices": "/apis/networking.istio.io/v1beta1",
            "seldondeployments": SDEPS,
        }[kind]
        return f"{group}/namespaces/{self.namespace}/{kind}" + (f"/{name}" if name else "")

    def all(self, kind):
        return self.api.get(self.path(kind))["items"]

    def pods_of(self, predictor):
        return [
            pod
            for pod in self.all("pods")
            for container in pod["spec"]["containers"]
            if {"name": "PREDICTOR_ID", "value": predictor} in container["env"]
        ]

    def state(self, name):
        """What Seldon says of itself."""
        return self.api.get(self.path("seldondeployments", name)).get("status", {}).get("state")

    def unready(self, predictor):
        """Make the predictor's pods not Ready, as a failed probe would."""
        for pod in self.pods_of(predictor):
            conditions = [
                {**c, "status": "False"} if c["type"] in ("Ready", "ContainersReady") else c
                for c in pod["status"]["conditions"]
            ]
            status = {"status": {"conditions": conditions}}
            self.api.patch(f"{self.path('pods', pod['metadata']['name'])}/status", status)


class Rig:
    """A substrate and how to make predictors that it can serve. ``cluster`` is None on one machine."""

    def __init__(self, substrate, namespace, make, cluster=None):
        self.substrate, self.namespace, self.predictor, self.cluster = substrate, namespace, make, cluster

    def deployment(self, name, *predictors, annotations=None):
        return manifests.seldon_deployment(name, self.namespace, list(predictors), annotations)

    def added(self, obj, predictor, share=0):
        """The object with one more predictor, which takes ``share`` from the first."""
        alone = self.deployment("x", dataclasses.replace(predictor, traffic=100, shadow=False))
        added = alone["spec"]["predictors"][0] | {"traffic": predictor.traffic}
        changed = copy.deepcopy(obj)
        changed["spec"]["predictors"] += [added | ({"shadow": True} if predictor.shadow else {})]
        changed["spec"]["predictors"][0]["traffic"] -= share
        return changed

    def events(self, name):
        """(type, reason, message) where people look for them."""
        if self.cluster is None:
            path = Path(self.substrate.home) / "logs" / "events.jsonl"
            found = [json.loads(line) for line in path.read_text().splitlines()]
            return [(e["type"], e["reason"], e["message"]) for e in found if e["object"] == name]
        return [
            (e["type"], e["reason"], e["message"])
            for e in self.cluster.all("events")
            if e["involvedObject"]["name"] == name and e["source"]["component"].startswith("seaway")
        ]


class Steady:
    """A signal source that counts what a gateway would: ``rate`` requests a second, by the weights routed.

    ``worse``: predictor -> share of errors. Time passes only by ``pass_time``.
    """

    url = "http://127.0.0.1:1"

    def __init__(self, cluster, name, worse=None, rate=100):
        self.cluster, self.name, self.worse, self.rate = cluster, name, worse or {}, rate
        self.now, self.totals, self.seen = 1_800_000_000.0, {}, []

    def clock(self):
        return self.now

    def routed(self):
        service = self.cluster.api.get(self.cluster.path("virtualservices", self.name))
        routes = service["spec"]["http"][0]["route"]
        alone = len(routes) == 1
        return {r["destination"]["subset"]: r.get("weight", 100 if alone else 0) for r in routes}

    def pass_time(self, seconds=10.0):
        self.now += seconds
        weights = self.routed()
        self.seen.append(weights)
        for predictor, weight in weights.items():
            n = round(self.rate * seconds * weight / 100)
            bad = round(n * self.worse.get(predictor, 0.0))
            old = self.totals.get(predictor, (0, 0))
            self.totals[predictor] = (old[0] + n, old[1] + bad)

    def counters(self, namespace, services, pods):
        found = {}
        for predictor in services:
            n, bad = self.totals.get(predictor, (0, 0))
            at = self.now
            sources = {"gateway/g": Counters(n, bad, dict.fromkeys((5, 100, 1000), 0), None, None, at)}
            sources["pod/p"] = Counters(None, None, None, n // 50, n, at)
            found[predictor] = sources
        return found


def wait_for(check, seconds=20.0, what="it"):
    """Until ``check()`` is true; its last value."""
    deadline = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what} did not come within {seconds} s"
        time.sleep(0.05)


@pytest.fixture(scope="session")
def kubeconfig():
    path = os.environ.get("SEAWAY_KUBECONFIG")
    if not path:
        pytest.skip("SEAWAY_KUBECONFIG names no cluster with the Seldon operator")
    assert Path(path).exists(), f"SEAWAY_KUBECONFIG: {path} does not exist"
    return path


@pytest.fixture
def cluster(kubeconfig):
    made = Cluster(Api(kubeconfig=kubeconfig))
    yield made
    with contextlib.suppress(Exception):
        made.close()


@pytest.fixture
def kube(cluster):
    """The rig of a cluster; its predictors run on nodes that only pretend, so their bundles need not exist."""
    return Rig(KubernetesSubstrate(cluster.api, cluster.namespace), cluster.namespace, fake_predictor, cluster)


@pytest.fixture(scope="module")
def local_home(tmp_path_factory):
    with LocalSubstrate(tmp_path_factory.mktemp("home")) as substrate:
        yield substrate


@pytest.fixture(params=["local", "kubernetes"])
def rig(request):
    if request.param == "kubernetes":
        return request.getfixturevalue("kube")
    bundles = request.getfixturevalue("bundles")

    def make(name, traffic, **changes):
        return Predictor(name, traffic, bundles.make(name), bundles.store, "seaway", name, **changes)

    return Rig(request.getfixturevalue("local_home"), "default", make)


@pytest.fixture
def operator_switch():
    """(down, up) of the operator's process."""
    commands = [os.environ.get(f"SEAWAY_SELDON_{way}") for way in ("DOWN", "UP")]
    if not all(commands):
        pytest.skip("SEAWAY_SELDON_DOWN and SEAWAY_SELDON_UP do not say how to stop and start the operator")
    down, up = (lambda c=c: subprocess.run(c, shell=True, check=True, timeout=120) for c in commands)
    yield down, up
    up()


def rewritten(substrate, name, change):
    """Read, change and write until no status of Seldon's comes between; what was stored."""
    for _ in range(50):
        try:
            return substrate.write(change(substrate.read(name)))
        except Conflict:
            time.sleep(0.02)
    raise AssertionError(f"{name} is written all the time")


def fake_predictor(name, traffic, **changes):
    return Predictor(name, traffic, f"/bundles/{name}", {"type": "sqlite", "path": "/x"}, "seaway", name, **changes)
