"""The controller as a process with its own account in the cluster, killed while it works."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
import urllib.parse
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from seaway.artifacts import canonical_json
from seaway.config import load, project_root
from seaway.keys import public_key
from seaway.signing import Seal
from serving.controller_manifests import controller
from serving.rollout import state as states
from serving.rollout.decisions import DecisionLog
from serving.rollout.replay import replay
from tests.contract.conftest import wait_for
from tests.contract.test_controller_in_cluster import account, apply
from tests.serving.rollout_world import RULES

PROGRAM = """
import json, sys
from pathlib import Path
from seaway.config import load
from serving.rollout.controller import run_controller
home, serving = sys.argv[1], json.loads(sys.argv[2])
sys.exit(run_controller(load("local", overrides={"home": home, "serving": serving}), "--once" in sys.argv))
"""
EDGES = (5, 10, 25, 50, 100, 250, 500, 1000)


class FakePrometheus:
    """Answers the queries for a release that gets ``rate`` requests a second, split as the VirtualService says."""

    def __init__(self, kube, name, rate, worse=None):
        self.kube, self.name, self.rate, self.worse = kube, name, rate, worse or {}
        self.totals, self.stop = {}, threading.Event()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                result = fake.answer(form["query"][0])
                text = json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}}).encode()
                self.send_response(200)
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.httpd.server_port}"
        self.scrapes = deque(maxlen=20)  # (when, predictor -> (requests, errors))
        self.threads = [threading.Thread(target=run) for run in (self.httpd.serve_forever, self._count)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.httpd.shutdown()
        for thread in self.threads:
            thread.join()
        self.httpd.server_close()

    def _count(self):
        last = time.time()
        while not self.stop.wait(0.1):
            weights, now = self.kube.substrate.status(self.name).weights, time.time()
            for predictor, weight in weights.items():
                n = round(self.rate * (now - last) * weight / 100)
                old = self.totals.get(predictor, (0, 0))
                self.totals[predictor] = (old[0] + n, old[1] + round(n * self.worse.get(predictor, 0)))
            last = now
            self.scrapes.append((now, dict(self.totals)))

    def answer(self, query):
        metric, scrapes, found = query.split("{")[0], list(self.scrapes), {}
        pods = re.search(r'pod=~"([^"]*)"', query)
        for at, totals in scrapes:
            for predictor, (n, bad) in totals.items():
                common = {"destination_service_name": f"{self.name}-{predictor}", "pod": "gw"}
                values = []
                if metric == "istio_requests_total":
                    values = [({**common, "response_code": "200"}, n - bad), ({**common, "response_code": "500"}, bad)]
                elif metric.startswith("istio"):
                    values = [({**common, "le": str(edge)}, n) for edge in (*EDGES, "+Inf")]
                elif pods:
                    mine = [p for p in pods[1].split("|") if p.startswith(f"{self.name}-{predictor}-0-")]
                    values = [({"pod": pod}, n if "answered" in metric else n // 50) for pod in mine]
                for labels, value in values:
                    key = json.dumps({"__name__": metric, **labels})
                    found.setdefault(key, []).append([at, str(value)])
        return [{"metric": json.loads(key), "values": values} for key, values in found.items()]


@pytest.fixture
def begun(kube, kubeconfig, bundles, tmp_path):
    """Starts a release; gives what starts a controller process for it."""
    apply(kube.cluster, controller("seaway-controller:dev", kube.namespace))
    account(kube.cluster, kubeconfig, tmp_path)
    config = load("local", overrides={"home": str(tmp_path)})
    bundle = bundles.make("canary")
    trusted = {"digest": Seal(config).sign(Path(bundle)), "public_key": str(public_key(config))}
    canary = dataclasses.replace(kube.predictor("canary", 10), bundle=bundle, parameters=trusted)
    listed = [kube.predictor("main", 90), canary]
    rules = {**RULES.record(), "block": 0.3}
    obj = states.annotated(kube.deployment("shop", *listed), {states.RULES: canonical_json(rules)})
    spec = states.spec_hash(obj, "main", "canary")
    begun = states.begin("r1", "main", "canary", spec, time.time(), RULES.rails)
    kube.substrate.create(states.store(obj, begun))
    kube.substrate.wait_ready("shop")
    children = []

    def start(url, *options):
        children.append(spawn(tmp_path, kube.namespace, url, *options))
        return children[-1]

    yield start
    for child in children:
        child.kill()
        child.wait()


def spawn(home, namespace, url, *options):
    """A controller process with the account whose kubeconfig is in ``home``."""
    serving = {"substrate": "kubernetes", "namespace": namespace, "prometheus": url}
    environment = {**os.environ, "KUBECONFIG": str(home / "controller.kubeconfig")}
    command = [sys.executable, "-c", PROGRAM, str(home), json.dumps(serving), *options]
    with (home / "log").open("a") as log:
        return subprocess.Popen(command, cwd=project_root(), env=environment, stdout=log, stderr=log)


def state_of(kube):
    return states.load(kube.substrate.read("shop"))


@pytest.mark.slow
def test_killed_again_and_again_it_promotes_the_good_canary(kube, begun, tmp_path):
    draw, kills = random.Random(4), 0
    lease = f"/apis/coordination.k8s.io/v1/namespaces/{kube.namespace}/leases/seaway-controller"
    with FakePrometheus(kube, "shop", rate=80) as fake:
        while kills < 4 and state_of(kube).phase == states.RUNNING:
            seen, child = state_of(kube).blocks, begun(fake.url)
            wait_for(lambda seen=seen: state_of(kube).blocks > seen, 60, "a decision")
            time.sleep(draw.random())
            child.kill()
            child.wait()
            kills += 1
            if kills > 1:  # the first time its successor waits until the dead one's lease has run out
                kube.cluster.api.delete(lease)
        started, child = time.time(), begun(fake.url)
        wait_for(lambda: (tmp_path / "run" / "alive").stat().st_mtime > started, 60, "its heartbeat")
        wait_for(lambda: state_of(kube).phase != states.RUNNING, 60, "the verdict")
        memory = psutil.Process(child.pid).memory_info().rss / 2**20
        child.terminate()
        assert child.wait(30) == 0
    state = state_of(kube)
    assert state.phase == states.PROMOTED, (state.reason, (tmp_path / "log").read_text())
    assert kills >= 3 and memory <= 160, memory
    print(f"resident: {memory:.0f} MiB")
    assert kube.substrate.wait_ready("shop").weights == {"canary": 100}
    log = DecisionLog(next(tmp_path.glob("releases/r1/*.jsonl")).with_name("decisions.jsonl"))
    assert all(step.same for step in replay(log.chain(state.head)))


def test_once_at_a_time_it_rolls_the_bad_canary_back(kube, begun, tmp_path):
    with FakePrometheus(kube, "shop", rate=2000, worse={"canary": 0.3}) as fake:
        for _ in range(20):
            assert begun(fake.url, "--once").wait(60) == 0
            if state_of(kube).phase != states.RUNNING:
                break
    state = state_of(kube)
    assert state.phase == states.ROLLED_BACK and "errors is worse" in state.reason, (tmp_path / "log").read_text()
    assert kube.substrate.wait_ready("shop").weights == {"main": 100}
