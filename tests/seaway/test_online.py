"""Looking features up without Feast: its format, its stores, and requests that are wrong."""

import json
import os
import sqlite3
import struct
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from seaway.config import project_root
from seaway.errors import SeawayError
from seaway.features import MICRO, FeatureSpec, Latest, Request, Window
from seaway.online import OnlineReader, history_features, history_view, parse_time, project_name, request_of
from seaway.online_format import encode_int64_list, entity_key

NOW = datetime(2024, 1, 10, 12, 0, 0)
MICROS = int(NOW.replace(tzinfo=UTC).timestamp()) * MICRO
SPEC = FeatureSpec(
    version="v",
    time="at",
    inputs=("person", "price", "at"),
    requests=(Request("price_now", "price"), Request("night", "at", "hour_at_most", 6)),
    windows=(
        Window("spending", "person", "person", "price", "n_{n}", "mean_{n}", ("1d",), 0.01, include_current=True),
    ),
    latest=(Latest("profile", "person", "person", "profiles", {"age": "age"}, ttl="1d", default=-1.0),),
)
REQUEST = {"person": 7, "price": 3.5, "at": NOW.isoformat()}


@pytest.mark.parametrize(
    "value",
    [
        NOW.isoformat(),
        "2024-01-10 12:00:00",
        "2024-01-10T12:00:00Z",
        "2024-01-10T14:30:00+02:30",
        MICROS,
        NOW,
        NOW.replace(tzinfo=UTC).astimezone(timezone(timedelta(hours=-8))),
    ],
)
def test_times(value):
    assert parse_time(value) == MICROS
    assert parse_time("2024-01-10T12:00:00.000001") == MICROS + 1
    assert parse_time("1969-12-31T23:59:59.5") == -500_000


@pytest.mark.parametrize("value", ["", "yesterday", "2024-13-01", None, 1.5, True, [NOW]])
def test_bad_times(value):
    with pytest.raises(ValueError, match="is not a time"):
        parse_time(value)


def test_names():
    assert project_name("card-fraud 2") == "card_fraud_2"
    row = {"person": 1, "price": np.float32(0.1), "input__price": 0.1, "at": NOW, "other": 2}
    assert request_of(SPEC, row) == {"person": 1, "price": 0.1, "at": NOW}


def fill(path: Path, key: int = 7, prices=(100, 250), ages=(40.0,), age_stamp: datetime = NOW) -> None:
    """Rows as Feast's SQLite store lays them out (checked against Feast itself in test_stream)."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        for view in (history_view(SPEC.windows[0]), "profile"):
            connection.execute(
                f'CREATE TABLE IF NOT EXISTS "p_{view}" (entity_key BLOB, feature_name TEXT, value BLOB, '
                "value_text TEXT, vector_value BLOB, event_ts timestamp, created_ts timestamp, "
                "PRIMARY KEY(entity_key, feature_name))"
            )
        times = np.array([MICROS - 3600 * MICRO] * len(prices))
        blobs = map(encode_int64_list, (times, np.array(prices)))
        rows = dict(zip(history_features(SPEC.windows[0]), blobs, strict=True))
        entity = entity_key("person", key)
        for name, blob in rows.items():
            connection.execute(
                'INSERT OR REPLACE INTO "p_spending_history" VALUES (?,?,?,NULL,NULL,?,NULL)',
                (entity, name, blob, int(NOW.timestamp())),
            )
        for age in ages:
            connection.execute(
                'INSERT OR REPLACE INTO "p_profile" VALUES (?,?,?,NULL,NULL,?,NULL)',
                (entity, "age", b"\x35" + struct.pack("<f", age), int(age_stamp.timestamp())),
            )


@pytest.fixture
def reader(tmp_path):
    fill(tmp_path / "online.db")
    reader = OnlineReader({"type": "sqlite", "path": str(tmp_path / "online.db")}, "p", SPEC)
    yield reader
    reader.close()


def test_features_of_a_request(reader):
    assert SPEC.names == ("price_now", "night", "n_1", "mean_1", "age")
    found = reader.features(REQUEST)
    assert found.dtype == np.float32
    assert found.tolist() == np.array([3.5, 0, 3, (1 + 2.5 + 3.5) / 3, 40], dtype=np.float32).tolist()


def test_unknown_entity_has_no_history(reader):
    assert reader.features(REQUEST | {"person": 8}).tolist() == [3.5, 0, 1, 3.5, -1]


def test_old_value_of_another_source_gives_the_default(reader):
    at_ttl, past_ttl = (REQUEST | {"at": (NOW + timedelta(days=1, seconds=s)).isoformat()} for s in (0.9, 1))
    assert reader.features(at_ttl)[-1] == 40
    assert reader.features(past_ttl)[-1] == -1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"person": None}, "'person' is missing"),
        ({"person": 1.5}, "'person' must be a whole number"),
        ({"person": "7"}, "'person' must be a number"),
        ({"person": 2**70}, "'person' must be a whole number"),
        ({"person": True}, "'person' must be a number"),
        ({"price": float("nan")}, "'price' must be finite"),
        ({"price": float("inf")}, "'price' must be finite"),
        ({"price": "3"}, "'price' must be a number"),
        ({"price": [1]}, "'price' must be a number"),
        ({"price": 10**400}, "'price' must be a number"),
        ({"at": "noon"}, "'noon' is not a time"),
    ],
)
def test_bad_requests(reader, change, words):
    with pytest.raises(ValueError, match=words):
        reader.features(REQUEST | change)
    assert reader.features(REQUEST)[2] == 3  # and the next one is answered


def test_writes_of_another_process_are_seen_at_once(reader, tmp_path):
    assert reader.features(REQUEST)[2] == 3
    if (child := os.fork()) == 0:
        try:
            fill(tmp_path / "online.db", prices=(100, 200, 300), ages=(41.0,))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert reader.features(REQUEST).tolist()[2::2] == [4, 41]


def test_a_writer_in_the_middle_of_its_work_is_no_obstacle(reader, tmp_path):
    with sqlite3.connect(tmp_path / "online.db", isolation_level=None) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute('DELETE FROM "p_spending_history"')
        assert reader.features(REQUEST)[2] == 3
        writer.execute("COMMIT")
    assert reader.features(REQUEST)[2] == 1


def test_reader_survives_a_fork(reader):
    expected = reader.features(REQUEST).tobytes()
    receive, send = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.write(send, reader.features(REQUEST).tobytes())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(receive, 100) == expected == reader.features(REQUEST).tobytes()


def test_bad_stores_are_clear_errors(tmp_path):
    with pytest.raises(SeawayError, match="does not exist"):
        OnlineReader({"type": "sqlite", "path": str(tmp_path / "none.db")}, "p", SPEC)
    with pytest.raises(SeawayError, match="type sqlite with a path"):
        OnlineReader({"type": "memcached"}, "p", SPEC)
    sqlite3.connect(tmp_path / "empty.db").execute("CREATE TABLE t (x)").connection.close()
    empty = OnlineReader({"type": "sqlite", "path": str(tmp_path / "empty.db")}, "p", SPEC)
    with pytest.raises(SeawayError, match="cannot be read"):
        empty.features(REQUEST)
    redis = OnlineReader({"type": "redis", "connection": "localhost:1"}, "p", SPEC)
    with pytest.raises(SeawayError, match="cannot be read"):
        redis.features(REQUEST)


def test_model_server_environment_can_read(tmp_path):
    """The same look-up under the serving environment's own pins, and with nothing of Feast loaded."""
    python = project_root() / ".venv-serving" / "bin" / "python"
    if not python.exists():
        python = Path(sys.executable)
    fill(tmp_path / "online.db")
    code = (
        "import sys, json; from seaway.online import OnlineReader; from seaway.features import FeatureSpec;"
        "record, store, request = map(json.loads, sys.argv[1:]);"
        "reader = OnlineReader(store, 'p', FeatureSpec.from_record(record));"
        "print(reader.features(request).tobytes().hex()); sys.exit('feast' in sys.modules)"
    )
    store = {"type": "sqlite", "path": str(tmp_path / "online.db")}
    found = subprocess.run(
        [python, "-c", code, json.dumps(SPEC.as_record()), json.dumps(store), json.dumps(REQUEST)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == OnlineReader(store, "p", SPEC).features(REQUEST).tobytes().hex()
