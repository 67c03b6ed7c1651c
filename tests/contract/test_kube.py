"""The Kubernetes substrate without a cluster: what its objects say, and an API server that misbehaves."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from seaway.config import load
from seaway.errors import SeawayError
from seaway.kube_api import Api, Unavailable
from serving.signals.prometheus import Prometheus
from serving.substrate import kube_objects as found
from serving.substrate.base import Conflict, NotFound
from serving.substrate.choose import substrate_of
from serving.substrate.kubernetes import KubernetesSubstrate
from serving.substrate.local import LocalSubstrate
from tests.contract.conftest import fake_predictor


def route(predictor, weight=None, host=None):
    destination = {"host": host or f"shop-{predictor}.ns.svc.cluster.local", "subset": predictor}
    return {"destination": destination} | ({} if weight is None else {"weight": weight})


@pytest.mark.parametrize(
    ("routes", "weights"),
    [
        ([route("v1", 90), route("v2", 10)], {"v1": 90, "v2": 10}),
        ([route("v1", 100), route("v2")], {"v1": 100}),  # a weight of 0 is written as none
        ([route("v1")], {"v1": 100}),
        ([], {}),
        ([route("v1", -10), route("v2", 110)], {"v1": -10, "v2": 110}),
        ([route("v1", 60), route("old", 40)], {"v1": 60, "old": 40}),  # not in the object any more
        ([route("v1", 60, host="seldon-0af3.ns.svc"), route("v2", 40)], {"v1": 60, "v2": 40}),  # a name too long
        ([route("v1", 60), route("v2", 40, host="evil.elsewhere.svc")], {"v1": 60, "evil": 40}),
    ],
)
def test_weights_of_a_virtual_service(routes, weights):
    assert found.routed({"route": routes}, "shop", ["v1", "v2"]) == weights


def test_the_rest_route_is_found_by_its_prefix():
    http = [{"match": [{"uri": {"prefix": "/other/"}}]}, {"match": [{"uri": {"prefix": "/seldon/ns/shop/"}}], "x": 1}]
    assert found.http_route({"spec": {"http": http}}, "/seldon/ns/shop/")["x"] == 1
    assert found.http_route({}, "/seldon/ns/shop/") == {}


ASKED = {
    "containers": [
        {
            "name": "model",
            "image": "a:1",
            "env": [{"name": "A", "value": "1"}],
            "resources": {"requests": {"cpu": "1000m", "memory": "1024Mi"}},
        }
    ]
}


def test_a_deployment_covers_what_was_asked_whatever_was_added():
    stored = json.loads(json.dumps(ASKED))
    stored["restartPolicy"] = "Always"
    stored["containers"][0]["env"].append({"name": "B", "value": "2"})
    stored["containers"][0]["resources"]["requests"] = {"cpu": "1", "memory": "1Gi"}
    assert found.covers(ASKED, stored)
    for change in ({"image": "a:2"}, {"env": [{"name": "A", "value": "2"}]}, {"resources": {}}, {"name": "other"}):
        other = json.loads(json.dumps(stored))
        other["containers"][0] |= change
        assert not found.covers(ASKED, other), change
    assert not found.covers(ASKED, {}) and not found.covers(ASKED, None)


@pytest.mark.parametrize(
    ("change", "ready"),
    [
        ({}, True),
        ({"observedGeneration": 2}, False),  # these numbers are of the previous template
        ({"updatedReplicas": 1}, False),
        ({"readyReplicas": 1}, False),
        ({"unavailableReplicas": 1}, False),
    ],
)
def test_a_deployment_is_ready_when_all_of_its_newest_pods_are(change, ready):
    status = {"observedGeneration": 3, "updatedReplicas": 2, "readyReplicas": 2} | change
    assert found.is_ready({"metadata": {"generation": 3}, "spec": {"replicas": 2}, "status": status}) is ready
    assert not found.is_ready({"metadata": {"generation": 1}, "spec": {"replicas": 1}})
    assert not found.is_ready({"metadata": {"generation": 3}, "spec": {"replicas": 0}, "status": status})


def test_the_reason_of_a_pod_that_is_not_ready_is_told():
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image a:1"}}
    gone = {"terminated": {"reason": "OOMKilled"}}
    for state, said in (
        ({"containerStatuses": [{"state": waiting, "restartCount": 3}]}, "ImagePullBackOff: no such image a:1"),
        ({"containerStatuses": [{"state": {"running": {}}, "lastState": gone}]}, "OOMKilled"),
        ({"phase": "Pending"}, "Pending, not ready"),
        ({"conditions": [{"type": "Ready", "status": "True"}]}, ""),
    ):
        assert found.trouble({"status": state}) == said
    assert found.crashes({"status": {"containerStatuses": [{"restartCount": 3}, {"restartCount": 1}]}}) == 4
    assert found.crashes({}) == 0


@contextmanager
def api(tmp_path, answer, seconds=(1.0, 0.4)):
    """An API whose server does ``answer(handler)`` to every call; ``api.calls`` has (method, path)."""
    calls = []

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self):
            calls.append((self.command, self.path))
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer(self)

        do_GET = do_PUT = do_POST = do_DELETE = handle_any

        def log_message(self, *_):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{httpd.server_port}"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    made = Api(kubeconfig=str(path), seconds=seconds)
    made.calls = calls
    try:
        yield made
    finally:
        httpd.shutdown()
        httpd.server_close()


def says(code, message, reason=""):
    def answer(handler):
        text = json.dumps({"kind": "Status", "message": message, "reason": reason}).encode()
        handler.send_response(code)
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text)

    return answer


def hangs(handler):
    time.sleep(1)


def hangs_up(handler):
    handler.connection.close()


def babbles(handler):
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(b"<html>")


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (says(429, "too many requests"), Unavailable, "overloaded"),
        (says(500, "etcdserver: leader changed"), Unavailable, "failed \\(500\\): .*leader changed"),
        (says(500, 'failed calling webhook "v1.x"'), Unavailable, "nothing was written: the webhook"),
        (says(503, "down"), Unavailable, "failed \\(503\\)"),
        (says(409, "the object has been modified", "Conflict"), Conflict, "changed by someone else"),
        (says(404, "not found"), NotFound, "no such object"),
        (says(403, "forbidden"), SeawayError, "this account may not do that"),
        (says(422, "spec.replicas: Invalid"), SeawayError, "refused \\(422\\): .*spec.replicas"),
        (hangs, Unavailable, "whether it was carried out is not known"),
        (hangs_up, Unavailable, "whether it was carried out is not known"),
        (babbles, Unavailable, "no JSON"),
    ],
)
def test_a_failed_write_is_told_in_plain_words_and_never_tried_twice(tmp_path, answer, kind, said):
    with api(tmp_path, answer) as made:
        made._client()  # its import is slow
        start = time.monotonic()
        with pytest.raises(kind, match=said):
            made.replace("/apis/x/v1/things/a", {"a": 1})
        assert time.monotonic() - start < 3 and made.calls == [("PUT", "/apis/x/v1/things/a")]


def test_an_event_that_cannot_be_said_harms_nobody(tmp_path):
    with api(tmp_path, hangs) as made:
        KubernetesSubstrate(made, "ns").event("shop", "Ramped", "text")


def test_without_a_cluster_or_prometheus_it_is_said_what_to_set(tmp_path):
    substrate = KubernetesSubstrate(Api(kubeconfig=str(tmp_path / "none")), "ns")
    with pytest.raises(SeawayError, match=r"no Kubernetes cluster is configured .* set KUBECONFIG"):
        substrate.names()
    with pytest.raises(SeawayError, match=r"set serving\.prometheus"):
        substrate.counters("shop")
    obj = {**_shop(), "metadata": {**_shop()["metadata"], "namespace": "elsewhere"}}
    with pytest.raises(SeawayError, match=r"set serving\.namespace"):
        substrate.create(obj)


def _shop():
    from serving.manifests import seldon_deployment

    return seldon_deployment("shop", "ns", [fake_predictor("v1", 100)])


def test_the_configuration_chooses():
    assert isinstance(substrate_of(load("local")), LocalSubstrate)
    serving = {"substrate": "kubernetes", "namespace": "ns", "prometheus": "http://p:9090/", "scrape": "60s"}
    chosen = substrate_of(load("local", overrides={"serving": {**serving, "gateway": "my-gateway"}}))
    assert isinstance(chosen, KubernetesSubstrate) and chosen.namespace == "ns"
    assert isinstance(chosen.signals, Prometheus) and chosen.metrics_url == "http://p:9090"
    assert (chosen.signals.gateway, chosen.signals.window) == ("my-gateway", 240)
