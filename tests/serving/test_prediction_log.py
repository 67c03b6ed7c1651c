"""The prediction log: what was answered, soon, whole lines only, and never a request failed for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest

from serving.model_server import ModelServer
from serving.prediction_log import BUFFER, KEPT, AnswerLog, file_of
from serving.substrate.operator.child import free_ports
from serving.wire import MAX_ID, Refused
from tests.serving.test_model_server import PYTHON, call


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def logged(bundles, tmp_path, monkeypatch):
    """A loaded model server that logs, and its file."""
    from prometheus_client import CollectorRegistry

    monkeypatch.setenv("SELDON_DEPLOYMENT_ID", "risk")
    monkeypatch.setenv("PREDICTOR_ID", "v1")
    server = ModelServer(bundles.make("1"), json.dumps(bundles.store), log=str(tmp_path / "answers"))
    server.load(CollectorRegistry())
    yield server, file_of(tmp_path / "answers")
    server._answers.close()


def test_a_line_a_row_by_the_callers_id_within_a_second(logged, ask):
    server, path = logged
    asked = ask((7, 0.0, "2024-05-04T10:00:00"), (8, 30.0, "2024-05-04T10:00:00"))
    asked["meta"]["puid"] = 'a "b"/ü'
    before = time.time()
    answer = server.predict_raw(asked)
    assert answer["meta"]["puid"] == 'a "b"/ü'
    deadline = time.monotonic() + 1
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    found = lines_of(path)
    assert path.parent.name == "risk" and path.name.startswith("v1-") and path.stem.endswith(f"-{os.getpid()}")
    assert [line["id"] for line in found] == ['a "b"/ü', 'a "b"/ü/1']
    assert [[line["p"], line["d"]] for line in found] == [
        [pytest.approx(score, rel=1e-8), decision] for score, decision in answer["data"]["ndarray"]
    ]
    assert all(set(line) == {"id", "t", "p", "d", "v"} and line["v"] == "1" for line in found)
    assert all(before - 0.001 <= line["t"] <= time.time() for line in found)


def test_the_proxys_id_when_the_caller_gave_none_and_no_line_without_any(logged, ask):
    from flask import Flask

    server, path = logged
    app = Flask("x")
    for header in ({"x-request-id": "from-proxy"}, {}, {"x-request-id": "x" * (MAX_ID + 1)}):
        with app.test_request_context(headers=header):
            assert "puid" not in server.predict_raw(ask())["meta"]
    both = ask()
    both["meta"]["puid"] = "from-caller"
    with app.test_request_context(headers={"x-request-id": "from-proxy-2"}):
        server.predict_raw(both)
    server._answers.flush()
    assert [line["id"] for line in lines_of(path)] == ["from-proxy", "from-caller"]


@pytest.mark.parametrize("puid", ["x" * (MAX_ID + 1), 7, ["x"], "line\nbreak", "\ud800", True, {}])
def test_an_id_that_is_none_is_refused(logged, ask, puid):
    server, _ = logged
    asked = ask()
    asked["meta"]["puid"] = puid
    with pytest.raises(Refused, match=r"meta\.puid must be a text of at most 128"):
        server.predict_raw(asked)
    asked["meta"]["puid"] = None
    assert "puid" not in server.predict_raw(asked)["meta"]


def test_a_folder_that_cannot_be_written_fails_no_request_and_is_said_once(logged, ask, caplog):
    server, path = logged
    path.parent.parent.write_text("a file where the folder should be")
    asked = ask()
    for number in range(3):
        asked["meta"]["puid"] = f"r{number}"
        assert server.predict_raw(asked)["data"]
        server._answers.flush()
    assert server.counts.lost._value.get() == 3
    assert sum("loses lines" in record.message for record in caplog.records) == 1
    path.parent.parent.unlink()  # mended
    asked["meta"]["puid"] = "after"
    server.predict_raw(asked)
    server._answers.flush()
    assert [line["id"] for line in lines_of(path)] == ["after"]
    assert server.counts.lost._value.get() == 3


def test_a_disk_that_takes_half_a_line_spoils_no_other_line(tmp_path, monkeypatch):
    lost = []
    log = AnswerLog(tmp_path / "x.jsonl", "1", lost.append, every=60)
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[: len(data) * 2 // 3]))
    log.add("a", [0.5], [1])
    log.add("b", [0.5], [1])
    log.flush()
    monkeypatch.setattr(os, "write", write)
    log.add("c", [0.5], [1])
    log.close()
    found = (tmp_path / "x.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["id"] for line in (found[0], found[-1])] == ["a", "c"] and sum(lost) == 1


def test_memory_and_disk_are_bounded_and_the_newest_lines_are_kept(tmp_path):
    lost, path = [], tmp_path / "x.jsonl"
    log = AnswerLog(path, "1", lost.append, every=60, largest=5_000)
    for number in range(BUFFER + 5):
        log.add(f"{number}", [0.5], [1])
    assert sum(lost) == 5
    log.flush()
    (tmp_path / "x.jsonl").unlink()
    for number in range(600):
        log.add(f"later {number:03d}", [0.5], [1])
        if number % 20 == 19:
            log.flush()
        if number == 99:  # the first file is full
            assert [p.name for p in sorted(tmp_path.iterdir())] == ["x-1.jsonl", "x.jsonl"]
    log.close()
    kept = [tmp_path / f"x-{part}.jsonl" for part in sorted(int(p.stem[2:]) for p in tmp_path.iterdir())]
    assert len(kept) == KEPT and all(3_000 < p.stat().st_size <= 5_000 for p in kept[:-1])
    ids = [line["id"] for p in kept for line in lines_of(p)]
    assert ids == [f"later {number:03d}" for number in range(600 - len(ids), 600)] and sum(lost) == 5


def test_a_request_pays_at_most_thirty_microseconds_for_it(tmp_path):
    log = AnswerLog(tmp_path / "x.jsonl", "1")
    best = float("inf")
    for _ in range(20):
        start = time.perf_counter()
        for number in range(500):
            log.add(f"request-{number}", [0.123456789], [0])
        best = min(best, (time.perf_counter() - start) / 500)
    log.close()
    assert len(lines_of(tmp_path / "x.jsonl")) == 10_000
    assert best < 30e-6, f"{best * 1e6:.1f} us"


@pytest.mark.skipif(not PYTHON.exists(), reason="needs the serving environment")
def test_a_server_that_is_told_to_stop_writes_what_waits(bundles, tmp_path, ask):
    ports, bundle = free_ports(2), bundles.make("1")
    values = {"bundle": bundle, "online_store": json.dumps(bundles.store), "log": str(tmp_path / "answers")}
    values |= bundles.trusted(bundle)
    environment = os.environ | {
        "PREDICTIVE_UNIT_PARAMETERS": json.dumps(
            [{"name": k, "value": v, "type": "STRING"} for k, v in values.items()]
        ),
        "PREDICTIVE_UNIT_HTTP_SERVICE_PORT": str(ports[0]),
        "PREDICTIVE_UNIT_METRICS_SERVICE_PORT": str(ports[1]),
        "SELDON_DEPLOYMENT_ID": "risk",
        "SEAWAY_BIND": "127.0.0.1",
    }
    with (tmp_path / "log").open("wb") as output:
        server = subprocess.Popen([PYTHON, "-m", "serving.microservice"], stdout=output, stderr=output, env=environment)
    try:
        deadline = time.monotonic() + 60
        while call(ports[0], "GET", "/health/status")[0] != 200:
            assert server.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.1)
        for number in range(20):
            body = json.dumps(ask() | {"meta": {"puid": f"r{number}"}})
            assert call(ports[0], "POST", "/predict", body, Content_Type="application/json")[0] == 200
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(15) == 0
    (path,) = (tmp_path / "answers" / "risk").iterdir()
    assert [line["id"] for line in lines_of(path)] == [f"r{number}" for number in range(20)]
