"""Prediction logs in object storage: written by a server without a disk, read by the controller, nothing twice."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

import pytest

from seaway.errors import SeawayError
from seaway.evidence.means import Bound
from seaway.storage import Storage
from serving.object_log import ObjectLog, log_of
from serving.prediction_log import AnswerLog
from serving.rollout.rules import Rules
from serving.signals.objects import ObjectFolder, ObjectTail
from serving.signals.pairs import PairFeed
from tests.seaway.s3_server import BUCKET, REGION, s3_server


@pytest.fixture(scope="module")
def server():
    with s3_server() as url:
        yield url


@pytest.fixture(params=["file", "s3"])
def store(request, tmp_path, monkeypatch) -> Storage:
    monkeypatch.setenv("SELDON_DEPLOYMENT_ID", "risk")
    monkeypatch.setenv("PREDICTOR_ID", "v1-shadow")
    if request.param == "file":
        return Storage((tmp_path / "answers").as_uri())
    url = request.getfixturevalue("server")
    return Storage(f"s3://{BUCKET}/{tmp_path.name}/answers", url, REGION)


def lines_of(tail) -> list[str]:
    return [json.loads(line)["id"] for _, lines in tail.read() for line in lines]


def test_what_is_logged_is_read_once_as_it_grows(store):
    writer = ObjectLog(store, "1", every=60)
    tail = ObjectTail(ObjectFolder(store, store.uri) / "risk", time.time() - 60)
    assert lines_of(tail) == []
    writer.add("a", [0.25, 0.5], [0, 1])
    writer.flush()
    assert lines_of(tail) == ["a", "a/1"] and lines_of(tail) == []
    writer.add("b", [0.5], [1])
    writer.close()
    assert lines_of(tail) == ["b"] and lines_of(tail) == []
    (found,) = store.find(store.uri)
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    assert found.uri.startswith(f"{store.uri}/risk/{day}/v1-shadow-") and found.uri.endswith("-0.jsonl")


def test_a_full_part_is_left_and_the_next_begun(store):
    writer = ObjectLog(store, "1", every=60, part=100)
    for i in range(6):
        writer.add(f"id-{i}", [0.25], [0])
        writer.flush()
    writer.close()
    assert len(store.find(store.uri)) > 1
    everything = ObjectTail(ObjectFolder(store, f"{store.uri}/risk"))  # since ever
    assert sorted(lines_of(everything)) == [f"id-{i}" for i in range(6)]


def test_an_outage_loses_nothing_until_too_much_waits(store, monkeypatch):
    lost, out = [], [True]
    real = Storage.write

    def write(self, uri, data, **more):
        if out[0]:
            raise SeawayError("no storage today")
        real(self, uri, data, **more)

    monkeypatch.setattr(Storage, "write", write)
    writer = ObjectLog(store, "1", lost.append, every=60, waiting=300)
    for i in range(3):
        writer.add(f"id-{i}", [0.25], [0])
        writer.flush()
    assert lost == [] and store.find(store.uri) == []
    for i in range(3, 9):
        writer.add(f"id-{i}", [0.25], [0])
        writer.flush()
    out[0] = False
    writer.flush()
    writer.close()
    there = lines_of(ObjectTail(ObjectFolder(store, f"{store.uri}/risk"), time.time() - 60))
    assert 3 <= len(there) < 9 and len(there) + sum(lost) == 9


def test_what_could_not_be_written_before_the_end_is_counted(store, monkeypatch):
    lost = []
    writer = ObjectLog(store, "1", lost.append, every=60)
    writer.add("a", [0.25], [0])
    monkeypatch.setattr(Storage, "write", lambda *_, **__: (_ for _ in ()).throw(SeawayError("away")))
    writer.close()
    assert lost == [1]


def test_a_line_that_is_not_whole_waits_for_its_end(store):
    folder = ObjectFolder(store, f"{store.uri}/risk")
    uri = f"{folder}/{datetime.now(UTC):%Y-%m-%d}/v1-h-1-0-0.jsonl"
    tail = ObjectTail(folder, time.time() - 60)
    store.write(uri, b'{"id":"a"}\n{"id":')
    assert lines_of(tail) == ["a"]
    store.write(uri, b'{"id":"a"}\n{"id":"b"}\n')
    assert lines_of(tail) == ["b"]


def test_pairs_are_those_of_both_versions_logs(store, monkeypatch):
    now = time.time()
    for version, predictor, score in (("1", "v1", 0.4), ("2", "v2-shadow", 0.7)):
        monkeypatch.setenv("PREDICTOR_ID", predictor)
        writer = ObjectLog(store, version, every=60)
        for i in range(10):
            writer.add(f"id-{i}", [score], [int(score > 0.5)])
        writer.close()
    pairs = {"flips": Bound(0.1, 0.05, 0.0, 1.0)}
    rules = Rules(ramp=(10,), cap=60, alpha_promote=0.05, alpha_rollback=0.05, rails={}, pairs=pairs)
    feed = PairFeed(ObjectFolder(store, store.uri) / "risk", None, rules, stable="1", canary="2", since=now - 5)
    found = feed.read()
    assert found["problem"] == "" and (found["flips"]["n"], found["flips"]["sum"]) == (10, 10.0)


def test_storage_that_cannot_be_read_is_a_problem_and_no_end(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    gone = Storage("s3://bucket/x", "http://127.0.0.1:9", REGION)
    pairs = {"flips": Bound(0.1, 0.05, 0.0, 1.0)}
    rules = Rules(ramp=(10,), cap=60, alpha_promote=0.05, alpha_rollback=0.05, rails={}, pairs=pairs)
    feed = PairFeed(ObjectFolder(gone, gone.uri), None, rules, stable="1", canary="2", since=time.time())
    assert "s3://bucket/x" in feed.read()["problem"]


def test_the_kind_of_log_follows_from_its_place(tmp_path):
    on_disk, in_storage = (log_of(where, "1", print) for where in (str(tmp_path), tmp_path.as_uri()))
    assert type(on_disk) is AnswerLog and type(in_storage) is ObjectLog
    on_disk.close(), in_storage.close()
