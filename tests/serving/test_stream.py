"""Online features against the offline table, event by event: SQLite and Redis, and skews that must be seen."""

import dataclasses
import shutil
import socket
import sqlite3
import subprocess
import time

import numpy as np
import polars as pl
import pytest

from components.dataset.step import dataset
from components.features.step import features as make_features
from seaway.config import load
from seaway.feast_store import open_feature_store
from seaway.features import DAY, MICRO
from seaway.hooks import resolve
from seaway.online import OnlineReader, history_features, history_view, parse_time, project_name, request_of
from seaway.parity import agrees, compare
from serving.stream import FeatureStream
from tests.feature_repo import world
from tests.feature_repo.toy.definitions import SPEC

FROM = int(world.START) + 18 * DAY


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return world.made_features(tmp_path_factory.mktemp("stream"), rows=9000)


@pytest.fixture(scope="module")
def replay(features):
    """The held-out events in order, and what the offline table (joined with the ratings) says of them."""
    table = pl.read_parquet(features / "features.parquet")
    ratings = pl.read_parquet(features / "rating.parquet").sort("event_timestamp", maintain_order=True)
    joined = table.join_asof(
        ratings.rename({"event_timestamp": "rated"}),
        left_on="event_timestamp",
        right_on="rated",
        by="shop",
        check_sortedness=False,
    )
    second = pl.col("event_timestamp").dt.truncate("1s")
    fresh = pl.col("rated").is_not_null() & (second - pl.col("rated") <= pl.duration(days=3))
    joined = joined.with_columns(pl.when(fresh).then("stars").otherwise(-1.0).cast(pl.Float32).alias("stars"))
    rows = joined.filter(pl.col("at").to_physical() >= FROM)
    return rows.to_dicts(), rows.select(SPEC.names).to_numpy()


@pytest.fixture(scope="module")
def redis_connection(tmp_path_factory):
    server = shutil.which("redis-server")
    if not server:
        pytest.skip("there is no redis-server on this machine")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("redis")
    command = [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def store(tmp_path):
    return {"type": "sqlite", "path": str(tmp_path / "online" / "r1.db")}


def opened(tmp_path, features, store, spec=SPEC):
    stream = FeatureStream(world.config(tmp_path), spec, features, store)
    stream.materialize(FROM)
    return stream, OnlineReader(store, project_name("toy-visits"), SPEC)


def served(stream, reader, rows, drop=lambda i: False):
    """Each event asks first and is pushed afterwards, as live traffic does."""
    found = []
    for i, row in enumerate(rows):
        stream.advance(parse_time(row[reader.spec.time]))
        found.append(reader.features(request_of(reader.spec, row)))
        if not drop(i):
            stream.push_events([row])
    return np.stack(found)


def test_every_feature_of_every_event_is_the_tables(tmp_path, features, replay, store):
    rows, table = replay
    seconds = [parse_time(row["at"]) // MICRO for row in rows]
    people = {(second, row["person"]) for second, row in zip(seconds, rows, strict=True)}
    assert len(rows) - len(people) > 50  # one entity twice in a second: the order of arrival counts
    report = compare(SPEC.names, served(*opened(tmp_path, features, store), rows), table)
    assert report["checked"] == len(rows) > 2000
    assert agrees(report), report


def test_redis_gives_the_same(tmp_path, features, replay, redis_connection):
    rows, table = replay[0][:400], replay[1][:400]
    store = {"type": "redis", "connection": redis_connection}
    stream, reader = opened(tmp_path, features, store)
    assert agrees(compare(SPEC.names, served(stream, reader, rows), table))
    stream.materialize(FROM)  # an earlier state again, although newer rows are there
    assert agrees(compare(SPEC.names, served(stream, reader, rows), table))
    stream.close()


def test_card_workload_from_its_simulator_to_the_last_request(tmp_path):
    """The demo's own definitions and data, through the data set that Feast joins."""
    config = load(overrides={"home": str(tmp_path), "scale": "tiny"})
    workload, spec = config.workload, resolve(config.workload.features, config.root)
    generate = resolve(workload.sources[workload.source].generator, config.root)
    generate(workload.scales["tiny"], tmp_path / f"{workload.source}.parquet")
    make_features(workload, spec, tmp_path, tmp_path / "features")
    dataset(config, spec, tmp_path / "features", tmp_path / "dataset")
    table = pl.read_parquet(tmp_path / "dataset" / "replay.parquet")
    store = {"type": "sqlite", "path": str(tmp_path / "online.db")}
    stream = FeatureStream(config, spec, tmp_path / "features", store)
    stream.materialize(parse_time(table[spec.time][0].replace(hour=0, minute=0, second=0)))
    reader = OnlineReader(store, project_name(workload.name), spec)
    report = compare(spec.names, served(stream, reader, table.to_dicts()), table.select(spec.names).to_numpy())
    assert report["checked"] > 500
    assert agrees(report), report


def _shorter_delay(stream):
    stream._histories[1].label_delay -= 12 * 3600 * MICRO


def _longer_delay(stream):
    stream._histories[1].label_delay += 3600 * MICRO


@pytest.mark.parametrize(
    ("plant", "features_hit"),
    [
        (_longer_delay, {"shop_visits_1d", "shop_visits_4d", "shop_returns_1d", "shop_returns_4d"}),
        (lambda stream: setattr(stream._histories[0], "_reach", 86_400), {"visits_3d", "price_3d"}),
    ],
)
def test_planted_skew_is_caught(tmp_path, features, replay, store, plant, features_hit):
    rows, table = replay[0][:300], replay[1][:300]
    stream, reader = opened(tmp_path, features, store)
    plant(stream)
    stream.materialize(FROM)
    report = compare(SPEC.names, served(stream, reader, rows), table)
    assert not agrees(report)
    assert set(report["by_feature"]) == features_hit


def test_one_dropped_push_is_caught(tmp_path, features, replay, store):
    rows, table = replay[0][:300], replay[1][:300]
    stream, reader = opened(tmp_path, features, store)
    report = compare(SPEC.names, served(stream, reader, rows, drop=lambda i: i == 20), table)
    assert not agrees(report)
    assert {"visits_1d", "price_1d"} <= set(report["by_feature"])


def test_definition_that_differs_from_the_tables_is_caught(tmp_path, features, replay, store):
    rows, table = replay[0][:300], replay[1][:300]
    stream, _ = opened(tmp_path, features, store)
    other = dataclasses.replace(SPEC, windows=(SPEC.windows[0], dataclasses.replace(SPEC.windows[1], delay="3d")))
    reader = OnlineReader(store, project_name("toy-visits"), other)
    report = compare(SPEC.names, served(stream, reader, rows), table)
    assert set(report["by_feature"]) == {"shop_visits_1d", "shop_visits_4d", "shop_returns_1d", "shop_returns_4d"}


def test_label_that_arrives_early_is_not_used_early(tmp_path, features, replay, store):
    """The store may know a label before its time; the window's own delay still keeps it out."""
    rows, table = replay[0][:300], replay[1][:300]
    stream, reader = opened(tmp_path, features, store)
    _shorter_delay(stream)
    stream.materialize(FROM)
    assert agrees(compare(SPEC.names, served(stream, reader, rows), table))


def test_materialise_again_forgets_what_came_after(tmp_path, features, replay, store):
    rows, table = replay[0][:200], replay[1][:200]
    stream, reader = opened(tmp_path, features, store)
    first = served(stream, reader, rows)
    written = stream.materialize(FROM)
    assert written == {"spending_history": 12, "returns_history": 8, "rating": 7}
    assert agrees(compare(SPEC.names, served(stream, reader, rows), table))
    stream.close()
    again, reader = opened(tmp_path, features, store)  # another process after a crash
    assert served(again, reader, rows).tobytes() == first.tobytes()


def test_events_in_one_batch_and_as_json_are_the_same(tmp_path, features, replay, store):
    rows = replay[0][:100]
    stream, reader = opened(tmp_path, features, store)
    stream.push_events([row | {"at": row["at"].isoformat()} for row in rows])
    batch = reader.features(request_of(SPEC, rows[-1]))
    stream.materialize(FROM)
    for row in rows:
        stream.push_events([row])
    assert batch.tobytes() == reader.features(request_of(SPEC, rows[-1])).tobytes()


def test_histories_are_trimmed_to_what_a_window_can_reach(tmp_path, features, store):
    stream, _ = opened(tmp_path, features, store)
    for history in stream._histories:
        for key in history.entities():
            times, quanta = history.of(key)
            assert len(times) == len(quanta) > 0
            assert times.min() // MICRO > FROM // MICRO - history.window.horizon // MICRO
    times, _ = stream._histories[0].of(0)
    later = int(times.max()) + 4 * DAY
    event = {"id": 1, "at": later, "person": 0, "shop": 0, "price": 1.0, "returned": 0}
    stream.push_events([event])
    assert stream._histories[0].of(0)[0].tolist() == [later]


def test_feasts_own_tools_read_the_store(tmp_path, features, replay, store):
    """Feast's SDK gives the stored histories, and its online service the same features as our reader."""
    stream, reader = opened(tmp_path, features, store)
    rows = replay[0][:40]
    stream.push_events(rows)
    row = max(replay[0][40:80], key=lambda r: r["at"]) | {"at": replay[0][80]["at"].replace(microsecond=0)}
    feast = open_feature_store(world.config(tmp_path), features, tmp_path / "online" / "r1.db.registry", store)
    entity = [{"person": row["person"], "shop": row["shop"], "price": row["input__price"], "at": row["at"]}]
    window = SPEC.windows[0]
    names = [f"{history_view(window)}:{name}" for name in history_features(window)]
    stored = feast.get_online_features(names, [{"person": row["person"]}]).to_dict()
    times, quanta = stream._histories[0].of(row["person"])
    assert stored[history_features(window)[0]] == [times.tolist()]
    assert stored[history_features(window)[1]] == [quanta.tolist()]
    answer = feast.get_online_features(feast.get_feature_service("toy_v1_online"), entity).to_dict()
    ours = reader.features(request_of(SPEC, row))
    theirs = np.array([answer[name][0] for name in SPEC.names], dtype=np.float32)
    assert theirs.tobytes() == ours.tobytes()


def test_store_is_in_write_ahead_mode(tmp_path, features, store):
    stream, _ = opened(tmp_path, features, store)
    with sqlite3.connect(store["path"]) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    stream.close()
    stream.close()  # closing twice is fine
