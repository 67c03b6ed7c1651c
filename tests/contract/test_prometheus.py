"""Counters from Prometheus: answers as they come, and as they must not be believed."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from seaway.errors import SeawayError
from serving.signals import prometheus
from serving.signals.prometheus import Prometheus, from_gateways, from_pods, parse, selector

LABELS = {
    "reporter": "source",
    "destination_service_name": "shop-v1",
    "response_code": "200",
    "response_flags": "-",
    "pod": "gw-1",
}


def series(name, values, **labels):
    samples = [[t, str(v)] for t, v in values]
    return {"metric": {"__name__": name, **LABELS, **labels}, "values": samples}


def requests(values, **labels):
    return series(prometheus.REQUESTS, values, **labels)


def buckets(at, rising, **labels):
    return [series(prometheus.DURATIONS, [(at, n)], le=le, **labels) for le, n in rising.items()]


def body(result, **more):
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}, **more}).encode()


EDGES = {"5": 10, "10.0": 60, "+Inf": 100}


def test_one_scrape_of_one_gateway():
    found = from_gateways(
        [
            requests([(100.0, 50), (115.0, 90)]),
            requests([(115.0, 4)], response_code="503", response_flags="UH"),
            requests([(115.0, 3)], response_code="0", response_flags="DC"),
            requests([(115.0, 2)], response_code="200", response_flags="UF,URX"),
            requests([(115.0, 1)], response_code="429", response_flags="RL"),  # the caller's doing
        ],
        buckets(115.0, EDGES),
    )["gateway/gw-1"]
    assert (found.requests, found.errors, found.at) == (100, 9, 115.0)
    assert found.slow == {5: 90, 10: 40}  # edges that are not there are left out, none is guessed
    assert found.answered is None and found.decisions is None


def test_the_newest_scrape_that_both_metrics_have_is_taken():
    found = from_gateways([requests([(100.0, 50), (115.0, 90), (130.0, 120)])], buckets(115.0, EDGES))
    assert found["gateway/gw-1"].requests == 90 and found["gateway/gw-1"].at == 115.0


def test_gateways_are_told_apart():
    found = from_gateways(
        [requests([(100.0, 5)]), requests([(101.0, 7)], pod="gw-2")],
        [*buckets(100.0, {"+Inf": 5}), *buckets(101.0, {"+Inf": 7}, pod="gw-2")],
    )
    assert {source: c.requests for source, c in found.items()} == {"gateway/gw-1": 5, "gateway/gw-2": 7}


def test_no_series_is_no_source_and_never_nought():
    assert from_gateways([], []) == {}
    assert from_pods([], []) == {}


def test_rows_of_a_pod():
    rows = [series(prometheus.ANSWERED, [(100.0, 40), (115.0, 60)])]
    found = from_pods(rows, [series(prometheus.DECIDED, [(100.0, 1), (115.0, 2)])])["gw-1"]
    assert (found.answered, found.decisions, found.requests, found.errors, found.slow) == (60, 2, None, None, None)


@pytest.mark.parametrize(
    ("asked", "timed", "said"),
    [
        ([requests([(1.0, "NaN")])], buckets(1.0, EDGES), "'NaN', which is not a count"),
        ([requests([(1.0, "+Inf")])], buckets(1.0, EDGES), "not a count"),
        ([requests([(1.0, "-3")])], buckets(1.0, EDGES), "not a count"),
        ([requests([(1.0, "2.5")])], buckets(1.0, EDGES), "not a count"),
        ([requests([(float("nan"), 3)])], buckets(1.0, EDGES), "a sample at the time nan"),
        ([requests([(1.0, 3)]), requests([(1.0, 3)], replica="b")], buckets(1.0, EDGES), "scraped twice"),
        ([requests([(1.0, 3)], pod="")], buckets(1.0, EDGES), "no label `pod`"),
        ([requests([(1.0, 3)])], [], "no scrape has both"),
        ([requests([(1.0, 3)])], buckets(2.0, EDGES), "no scrape has both"),
        ([requests([(1.0, 3)])], buckets(1.0, {"5": 1}), "do not rise to a \\+Inf"),
        ([requests([(1.0, 3)])], buckets(1.0, {"5": 7, "+Inf": 3}), "do not rise"),
        ([requests([(1.0, 3)])], buckets(1.0, EDGES) + buckets(1.0, EDGES, prom="b"), "scraped twice"),
    ],
)
def test_what_is_no_count_is_named_and_never_a_number(asked, timed, said):
    with pytest.raises(SeawayError, match=said):
        from_gateways(asked, timed)


def test_rows_without_decisions_are_a_problem():
    with pytest.raises(SeawayError, match="no scrape has both"):
        from_pods([series(prometheus.ANSWERED, [(1.0, 4)])], [])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"<html>", "not one"),
        (b"{}", "not one"),
        (b"[]", "not one"),
        (b'{"status":"error","error":"query timed out"}', "query timed out"),
        (body([], warnings=["store 10.0.0.1 did not answer"]), "with warnings"),
        (body([]).replace(b"matrix", b"vector"), "not raw samples"),
        (body([{"metric": {}}]), "not one"),
        (body([{"metric": [], "values": []}]), "not one"),
    ],
)
def test_an_answer_that_is_partial_or_none_is_named(text, said):
    with pytest.raises(SeawayError, match=said):
        parse(text, "q")


def test_values_cannot_leave_their_quotes():
    query = selector("m", {"namespace": 'a"} or up{x="'}, {"pod": ["a.b", 'c"|.*', "d\\"]})
    assert query == 'm{namespace="a\\"} or up{x=\\"",pod=~"a\\\\.b|c\\\\\\"\\\\|\\\\.\\\\*|d\\\\\\\\"}[180s]'


@contextmanager
def server(answer):
    """A server whose every answer is ``answer(handler)``."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            # what is left unread when the connection closes would reset it, and lose the answer on its way
            self.rfile.read(int(self.headers["Content-Length"]))
            answer(self)

        def log_message(self, *_):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}"
    finally:
        httpd.shutdown()
        httpd.server_close()


def test_a_server_that_fails_hangs_or_floods_is_named():
    def fails(handler):
        handler.send_error(503, "overloaded")

    def hangs(handler):
        threading.Event().wait(1)

    def floods(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(b" " * (prometheus.LIMIT + 2))

    for answer, said in ((fails, "answered 503"), (hangs, "does not answer"), (floods, "more than")):
        with server(answer) as url, pytest.raises(SeawayError, match=said):
            Prometheus(url, seconds=0.3 if answer is hangs else 20).counters("ns", {"v1": "shop-v1"}, {})
    with pytest.raises(SeawayError, match="does not answer"):
        Prometheus("http://127.0.0.1:1").counters("ns", {"v1": "shop-v1"}, {})
    with pytest.raises(SeawayError, match=r"serving\.prometheus is"):
        Prometheus("prometheus:9090")


def test_an_address_with_a_password_is_refused_and_not_repeated():
    with pytest.raises(SeawayError, match="carries a user or password") as caught:
        Prometheus("http://me:hunter2@prometheus:9090")
    assert "hunter2" not in str(caught.value)
