"""The same from a real Prometheus that scrapes a gateway and model pods which only count."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from serving.signals.prometheus import Prometheus
from tests.contract.conftest import wait_for

EDGES = ("0.5", "1", "5", "10", "25", "50", "100", "250", "500", "1000", "2500", "+Inf")


class Exporter:
    """The page of one gateway and of two model pods. ``counts``: service -> [requests, errors, slower than 100 ms]."""

    def __init__(self):
        self.counts = {"shop-v1": [0, 0, 0], "shop-v2": [0, 0, 0], "shop-v2-shadow": [0, 0, 0]}
        self.rows = {"v1-pod": [0, 0], "v2-pod": [0, 0]}
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                text = exporter.gateway() if self.path == "/gateway" else exporter.pod(self.path[1:])
                self.send_response(200)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_):
                pass

        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.httpd.server_port
        threading.Thread(target=self.httpd.serve_forever, daemon=True).start()

    def gateway(self):
        lines = ["# TYPE istio_requests_total counter"]
        times = ["# TYPE istio_request_duration_milliseconds histogram"]
        for service, (n, bad, slow) in self.counts.items():
            if not n:
                continue
            common = (
                'source_workload="istio-ingressgateway",destination_service_namespace="ns",'
                f'destination_service_name="{service}",reporter="source"'
            )
            for code, flags, value in (("200", "-", n - bad), ("503", "UF", bad)):
                if value:
                    labels = f'{common},response_code="{code}",response_flags="{flags}"'
                    lines.append(f"istio_requests_total{{{labels}}} {value}")
            for edge in EDGES:
                value = n - (slow if float(edge) <= 100 else 0)
                times.append(f'istio_request_duration_milliseconds_bucket{{{common},le="{edge}"}} {value}')
            times.append(f"istio_request_duration_milliseconds_count{{{common}}} {n}")
            times.append(f"istio_request_duration_milliseconds_sum{{{common}}} {n * 12.5}")
        sidecar = lines[-1].replace("istio-ingressgateway", "batch-job") if len(lines) > 1 else ""
        return "\n".join([*lines, sidecar, *times]) + "\n"

    def pod(self, name):
        answered, decided = self.rows[name]
        return (
            f"# TYPE seaway_rows_answered_total counter\nseaway_rows_answered_total {answered}\n"
            f"# TYPE seaway_rows_decided_total counter\nseaway_rows_decided_total {decided}\n"
        )


@pytest.fixture(scope="module")
def scraped(tmp_path_factory):
    binary = os.environ.get("PROMETHEUS") or shutil.which("prometheus")
    if not binary:
        pytest.skip("no `prometheus` on PATH, and PROMETHEUS names none")
    folder, exporter = tmp_path_factory.mktemp("prometheus"), Exporter()
    jobs = [("gateway", {"pod": "gw-1", "namespace": "istio-system"})]
    jobs += [(pod, {"pod": pod, "namespace": "ns"}) for pod in exporter.rows]
    config = {
        "global": {"scrape_interval": "250ms", "scrape_timeout": "250ms"},
        "scrape_configs": [
            {
                "job_name": path,
                "metrics_path": f"/{path}",
                "static_configs": [{"targets": [f"127.0.0.1:{exporter.port}"], "labels": labels}],
            }
            for path, labels in jobs
        ],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [
            binary,
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=(folder / "log").open("w"),
    )
    url = f"http://127.0.0.1:{port}"

    def up():
        try:
            return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{url}/-/ready", timeout=2)
        except OSError:
            assert server.poll() is None, (folder / "log").read_text()
            return None

    wait_for(up, 60, "Prometheus")
    yield exporter, Prometheus(url)
    server.terminate()
    server.wait(20)
    exporter.httpd.shutdown()
    exporter.httpd.server_close()


def ask(source):
    return source.counters("ns", {"v1": "shop-v1", "v2": "shop-v2"}, {"v1-pod": "v1", "v2-pod": "v2"})


def test_counts_are_raw_of_one_scrape_and_say_when(scraped):
    exporter, source = scraped
    # the targets are scraped at different moments: either pod may come first
    first = wait_for(lambda: f if all((f := ask(source)).values()) else None, what="the first scrapes")
    assert set(first["v1"]) == {"pod/v1-pod"}  # no request yet: no source, and not a count of 0
    exporter.counts = {"shop-v1": [900, 5, 20], "shop-v2": [100, 0, 3], "shop-v2-shadow": [40, 40, 40]}
    exporter.rows = {"v1-pod": [895, 18], "v2-pod": [100, 2]}
    before = time.time()
    found = wait_for(lambda: f if (f := ask(source))["v2"].get("gateway/gw-1") else None, what="the next scrape")
    gateway, canary = found["v1"]["gateway/gw-1"], found["v2"]["gateway/gw-1"]
    assert (gateway.requests, gateway.errors, gateway.slow[100], gateway.slow[250]) == (900, 5, 20, 0)
    assert (canary.requests, canary.errors, canary.slow[100]) == (100, 0, 3)  # no error series, and a total
    assert before - 1 < gateway.at < time.time() + 0.5 and gateway.at == canary.at
    rows = wait_for(lambda: r if (r := ask(source)["v1"]["pod/v1-pod"]).answered else None, what="rows")
    assert (rows.answered, rows.decisions, rows.requests) == (895, 18, None)
    assert set(found) == {"v1", "v2"}


def test_a_reset_is_seen_as_one_and_not_smoothed(scraped):
    exporter, source = scraped
    exporter.counts = {"shop-v1": [5000, 5, 20], "shop-v2": [500, 0, 3]}
    wait_for(lambda: _requests(source) == 5000, what="the counts")
    exporter.counts = {"shop-v1": [7, 0, 0], "shop-v2": [1, 0, 0]}  # the gateway began anew
    wait_for(lambda: _requests(source) == 7, what="the lower count")


def _requests(source):
    found = ask(source)["v1"].get("gateway/gw-1")
    return found and found.requests


def test_a_gateway_that_is_not_scraped_any_more_tells_its_age(scraped):
    exporter, source = scraped
    exporter.counts = {"shop-v1": [10, 0, 0], "shop-v2": [5, 0, 0]}
    wait_for(lambda: _requests(source) == 10, what="the counts")
    good, exporter.gateway = exporter.gateway, lambda: "{ not a page"
    try:
        time.sleep(1.2)
        at = ask(source)["v1"]["gateway/gw-1"].at
        assert time.time() - at > 0.9  # the last good scrape, with its own time
        time.sleep(0.5)
        assert ask(source)["v1"]["gateway/gw-1"].at == at
    finally:
        exporter.gateway = good
