from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seaway.artifacts import read_json, write_json
from seaway.config import project_root
from serving.faults import FaultyModelServer
from serving.metrics import ANSWERED, page, total
from serving.model_server import ModelServer
from serving.substrate.operator.child import free_ports
from serving.wire import MAX_ROWS, Refused

PYTHON = project_root() / ".venv-serving" / "bin" / "python"


def loaded(bundles, bundle, kind=ModelServer, **parameters):
    from prometheus_client import CollectorRegistry

    server = kind(bundle, json.dumps(bundles.store), "seaway", **parameters)
    server.load(CollectorRegistry())
    return server


def test_an_answer_has_probability_decision_and_lineage(bundles, ask):
    server = loaded(bundles, bundles.make("1"))
    answer = server.predict_raw(ask((7, 0.0, "2024-05-04T10:00:00"), (8, 30.0, 1714816800000000)))
    assert answer["data"]["names"] == ["probability", "decision"]
    for (score, decision), amount in zip(answer["data"]["ndarray"], (0.0, 30.0), strict=True):
        assert score == pytest.approx(1 / (1 + np.exp(1 - 0.1 * amount)), abs=1e-6)
        assert decision == int(amount > 10)
    where = {"bundle": server.digest, "stack": "local", "stack_update": ""}
    lineage = {"model_version": "1", "run": "run-1", "feature_hash": bundles.spec.hash}
    assert answer["meta"]["tags"] == lineage | where


def test_an_answer_names_the_registrys_version_and_the_platform_that_it_was_given_on(bundles, ask, monkeypatch):
    monkeypatch.setenv("SEAWAY_STACK", "organization/seaway-platform/prod")
    monkeypatch.setenv("SEAWAY_STACK_UPDATE", "7")
    bundle = bundles.make("1")
    server = loaded(bundles, bundle, version="4", **bundles.trusted(bundle))
    tags = server.predict_raw(ask((7, 0.0, "2024-05-04T10:00:00")))["meta"]["tags"]
    assert tags["model_version"] == "4"
    assert (tags["stack"], tags["stack_update"]) == ("organization/seaway-platform/prod", "7")
    assert tags["bundle"] == bundles.trusted(bundle)["digest"]


def test_features_and_reasons_come_when_asked_for(bundles, ask):
    server = loaded(bundles, bundles.make("1"))
    tags = server.predict_raw(ask((7, 30.0, "2024-05-04T10:00:00"), explain=True, features=True))["meta"]["tags"]
    assert tags["features"] == [[30.0, 1.0, 30.0, 1.0, 30.0, 1.0, 30.0]]  # the request is its window's only event
    (codes,) = tags["reasons"]
    assert [code["feature"] for code in codes] == ["amount_now"]  # the model reads nothing else
    assert "raises" in codes[0]["text"]


def test_names_may_come_in_any_order(bundles, ask):
    server = loaded(bundles, bundles.make("1"))
    plain = ask((7, 30.0, "2024-05-04T10:00:00"))
    turned = {"data": {"names": ["at", "person", "amount"], "ndarray": [["2024-05-04T10:00:00", 7, 30.0]]}}
    assert server.predict_raw(turned)["data"] == server.predict_raw(plain)["data"]


def test_a_bundle_of_other_features_is_not_served(bundles, tmp_path):
    bundle = Path(bundles.make("other"))
    write_json(bundle / "identity.json", {"version": "9", "feature_hash": "0" * 64})
    with pytest.raises(RuntimeError, match=r"identity.json claims feature hash 0000"):
        loaded(bundles, str(bundle))
    record = read_json(bundle / "model.json")
    record["features"]["windows"][0]["windows"] = ["1d"]  # three features, the model takes seven
    write_json(bundle / "model.json", record | {"feature_hash": None})
    (bundle / "identity.json").unlink()
    with pytest.raises(RuntimeError, match="cannot be served"):
        loaded(bundles, str(bundle))


def test_an_output_that_is_not_finite_is_a_500_and_never_an_answer(bundles, ask):
    server = loaded(bundles, bundles.make("nan", bias=float("nan")))
    with pytest.raises(Refused) as caught:
        server.predict_raw(ask())
    assert caught.value.status == 500
    assert "finite" not in str(caught.value)  # what is inside stays in the log


def test_faults_are_as_many_as_asked_for_and_the_same_each_time(bundles, ask):
    def outcomes():
        server = loaded(bundles, bundles.make("1"), FaultyModelServer, error_rate=0.3, seed=5)
        found = []
        for _ in range(400):
            try:
                server.predict_raw(ask())
                found.append(0)
            except Refused as error:
                assert error.status == 500
                found.append(1)
        return found

    first = outcomes()
    assert 80 < sum(first) < 160  # 120 +- 4.4 standard deviations
    assert outcomes() == first


def test_shuffled_features_change_the_score_but_not_the_reported_features(bundles, ask):
    request = ask((7, 30.0, "2024-05-04T10:00:00"), features=True)
    good = loaded(bundles, bundles.make("1")).predict_raw(request)
    harmed = loaded(bundles, bundles.make("1"), FaultyModelServer, shuffle_features=True, seed=1).predict_raw(request)
    assert harmed["meta"]["tags"]["features"] == good["meta"]["tags"]["features"]
    assert harmed["data"] != good["data"]


@pytest.fixture(scope="module")
def quiet(bundles):
    return loaded(bundles, bundles.make("1"))


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
anything = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=8), inner))
values = anything | st.sampled_from([7, 12.5, "2024-05-04T10:00:00", "9999-12-31T23:59:59+00:01", 2**63 - 1, -(2**63)])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        anything,
        st.fixed_dictionaries({"data": anything}, optional={"meta": anything}),
        st.builds(
            lambda table, meta: {"data": {"names": ["person", "amount", "at"], "ndarray": table}, "meta": meta},
            st.lists(st.lists(values, min_size=3, max_size=3) | values, max_size=3) | anything,
            st.none() | anything,
        ),
    )
)
def test_whatever_comes_is_answered_or_refused(quiet, body):
    try:
        answer = quiet.predict_raw(body)
    except Refused as error:
        assert 400 <= error.status < 500, error
    else:
        assert all(0 <= score <= 1 for score, _ in answer["data"]["ndarray"])


@pytest.fixture(scope="module")
def server(bundles, tmp_path_factory):
    """The real microservice of the serving environment: (http port, metrics port, log)."""
    folder = tmp_path_factory.mktemp("server")
    ports = free_ports(2)
    values = {"bundle": bundles.make("1"), "online_store": json.dumps(bundles.store)}
    environment = os.environ | {
        "PREDICTIVE_UNIT_PARAMETERS": json.dumps(
            [{"name": k, "value": v, "type": "STRING"} for k, v in values.items()]
        ),
        "PREDICTIVE_UNIT_HTTP_SERVICE_PORT": str(ports[0]),
        "PREDICTIVE_UNIT_METRICS_SERVICE_PORT": str(ports[1]),
        "SEAWAY_BIND": "127.0.0.1",
    }
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [PYTHON, "-m", "serving.microservice"], stdout=output, stderr=subprocess.STDOUT, env=environment
        )
    try:
        deadline = time.monotonic() + 60
        while not log.exists() or call(ports[0], "GET", "/health/status")[0] != 200:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield ports[0], ports[1], log
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(15)


def call(port, method, path, body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except ConnectionError:
        return 0, b""
    finally:
        connection.close()


GOOD = json.dumps(
    {"data": {"names": ["person", "amount", "at"], "ndarray": [[7, 12.5, "2024-05-04T10:00:00"]]}, "meta": {}}
)


def with_data(**changes):
    return json.dumps({"data": json.loads(GOOD)["data"] | changes})


def with_row(*row):
    return with_data(ndarray=[list(row)])


AT = "2024-05-04T10:00:00"
BAD = {
    "no body": ("", 400),
    "not json": ("{", 400),
    "bytes that are not text": (b"\xff\xfe\x00", 400),
    "a list": ("[]", 400),
    "a number": ("5", 400),
    "null": ("null", 400),
    "a text": ('"x"', 400),
    "no data": ("{}", 400),
    "data null": ('{"data": null}', 400),
    "key twice": ('{"data": 1, "data": 2}', 400),
    "NaN": (GOOD.replace("12.5", "NaN"), 400),
    "Infinity": (GOOD.replace("12.5", "-Infinity"), 400),
    "too big for a float": (GOOD.replace("12.5", "1e999"), 400),
    "too big for the sums": (GOOD.replace("12.5", "1e300"), 400),
    "an integer too big for the sums": (with_row(7, 2**62, AT), 400),
    "an integer without end": (GOOD.replace("12.5", "9" * 400), 400),
    "nested deeply": ("[" * 20_000, 400),
    "no names": (with_data(names=None), 400),
    "a name missing": (with_data(names=["person", "amount"]), 400),
    "a name twice": (with_data(names=["person", "amount", "amount"]), 400),
    "an unknown name": (with_data(names=["person", "amount", "when"]), 400),
    "names not texts": (with_data(names=[1, 2, 3]), 400),
    "no rows": (with_data(ndarray=[]), 400),
    "rows null": (with_data(ndarray=None), 400),
    "not rows": (with_data(ndarray=[7, 12.5, AT]), 400),
    "a short row": (with_row(7, 12.5), 400),
    "ragged": (with_data(ndarray=[[7, 12.5, AT], [7]]), 400),
    "too many rows": (with_data(ndarray=[[7, 12.5, AT]] * (MAX_ROWS + 1)), 413),
    "null value": (with_row(7, None, AT), 400),
    "bool value": (with_row(7, True, AT), 400),
    "nested value": (with_row(7, [12.5], AT), 400),
    "text for a number": (with_row(7, "12.5", AT), 400),
    "a key with a fraction": (with_row(7.5, 12.5, AT), 400),
    "a key out of range": (with_row(2**70, 12.5, AT), 400),
    "not a time": (with_row(7, 12.5, "yesterday"), 400),
    "a time with a fraction": (with_row(7, 12.5, 1.5), 400),
    "an endless text": (with_row(7, 12.5, "2" * 1000), 400),
    "explain not a bool": (json.dumps(json.loads(GOOD) | {"meta": {"tags": {"explain": "yes"}}}), 400),
    "tags not an object": (json.dumps(json.loads(GOOD) | {"meta": {"tags": []}}), 400),
    "strData": ('{"strData": "x"}', 400),
    "larger than 1 MiB": (GOOD + " " * (1 << 20), 413),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_is_a_4xx_that_says_why(server, name):
    body, status = BAD[name]
    got, text = call(server[0], "POST", "/api/v1.0/predictions", body, Content_Type="application/json")
    assert got == status, text
    problem = json.loads(text)["status"]
    assert problem["reason"] and problem["info"] and problem["code"] == status
    assert b"Traceback" not in text and b".py" not in text


@pytest.mark.parametrize(
    ("method", "path", "kind", "status"),
    [
        ("GET", "/api/v1.0/predictions", "application/json", 405),
        ("DELETE", "/predict", "application/json", 405),
        ("POST", "/api/v1.0/predictions?json={}", "application/json", 400),
        ("POST", "/api/v1.0/predictions", "text/plain", 415),
        ("POST", "/api/v1.0/predictions", "multipart/form-data; boundary=x", 415),
        ("POST", "/api/v1.0/predictions", "application/x-www-form-urlencoded", 415),
        ("POST", "/nothing/here", "application/json", 404),
        ("POST", "/send-feedback", "application/json", 404),
        ("POST", "/api/v1.0/feedback", "application/json", 404),
        ("POST", "/aggregate", "application/json", 404),
        ("GET", "/seldon.json", "application/json", 404),
    ],
)
def test_only_predictions_health_and_metadata_are_served(server, method, path, kind, status):
    got, text = call(server[0], method, path, GOOD, Content_Type=kind)
    assert got == status, text
    assert json.loads(text)["status"]["reason"]


def test_after_all_that_the_server_answers_and_has_logged_no_trace(server):
    status, text = call(server[0], "POST", "/api/v1.0/predictions", GOOD, Content_Type="application/json")
    assert status == 200 and json.loads(text)["meta"]["tags"]["model_version"] == "1"
    assert b"Traceback" not in server[2].read_bytes()


def test_each_prediction_is_counted_once_on_the_metrics_page(server):
    before = total(call(server[1], "GET", "/metrics")[1].decode(), ANSWERED)
    threads = [
        threading.Thread(
            target=lambda: [
                call(server[0], "POST", "/api/v1.0/predictions", GOOD, Content_Type="application/json")
                for _ in range(25)
            ]
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert total(call(server[1], "GET", "/metrics")[1].decode(), ANSWERED) - before == 100


def test_slow_callers_hold_nobody_else(server):
    held = [socket.create_connection(("127.0.0.1", server[0])) for _ in range(6)]  # of 8 threads
    try:
        for s in held:
            s.sendall(b"POST /api/v1.0/predictions HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n")
        start = time.monotonic()
        status, _ = call(server[0], "POST", "/api/v1.0/predictions", GOOD, Content_Type="application/json")
        assert status == 200 and time.monotonic() - start < 2
    finally:
        for s in held:
            s.close()


def test_a_page_of_several_keeps_families_together_and_labels_apart():
    from prometheus_client.parser import text_string_to_metric_families

    one = '# HELP a_total x\n# TYPE a_total counter\na_total 1.0\n# TYPE b gauge\nb{k="v w"} 2.0\n'
    text = page([({"predictor": "p"}, one), ({"predictor": "q"}, one), ({}, "# TYPE c gauge\nc{} 3\n")])
    families = list(text_string_to_metric_families(text))
    assert [f.name for f in families] == ["a", "b", "c"]
    assert [s.labels for s in families[1].samples] == [
        {"predictor": "p", "k": "v w"},
        {"predictor": "q", "k": "v w"},
    ]
    assert total(text, "a_total") == 2
