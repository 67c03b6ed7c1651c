"""A Redis that asks for a password: both the writer (Feast) and the reader take it from the environment."""

import shutil
import socket
import subprocess
import time

import pytest
from redis import RedisError

from seaway.config import load
from seaway.errors import SeawayError
from seaway.feast_store import open_feature_store
from seaway.features import FeatureSpec, Latest
from seaway.online import OnlineReader
from seaway.online_stores import PASSWORD

SPEC = FeatureSpec(
    version="v",
    time="at",
    inputs=("person", "at"),
    requests=(),
    windows=(),
    latest=(Latest(view="mood", entity="person", key="person", source="moods", columns={"mood": "mood"}),),
)


@pytest.fixture(scope="module", params=["hunter2", "12345", 'q"uo te'])
def redis(request, tmp_path_factory):
    """(connection, password) of a server of our own."""
    server = shutil.which("redis-server")
    if not server:
        pytest.skip("there is no redis-server on this machine")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("redis")
    command = [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    child = subprocess.Popen([*command, "--requirepass", request.param], stdout=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port), 0.1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield f"127.0.0.1:{port}", request.param
    finally:
        child.terminate()
        child.wait()


@pytest.fixture
def calls(redis, tmp_path):
    """A read by our reader and a call by Feast, both with clients made now."""

    def made():
        store = {"type": "redis", "connection": redis[0]}
        reader = OnlineReader(store, "p", SPEC)
        feast = open_feature_store(load(), tmp_path, tmp_path / "registry.db", store)
        online = feast._get_provider().online_store
        return (
            lambda: reader.features({"person": 1, "at": "2024-05-04T10:00:00"}).tolist(),
            lambda: online._get_client(feast.config.online_store).ping(),
        )

    return made


def test_reader_and_writer_take_the_password_from_the_environment(redis, calls, monkeypatch):
    monkeypatch.setenv(PASSWORD, redis[1])
    read, ping = calls()
    assert read() == [0.0] and ping() is True


@pytest.mark.parametrize("redis", ["hunter2"], indirect=True)  # the client tries again for seconds
@pytest.mark.parametrize("wrong", ["", "wrong"])
def test_without_the_right_password_nothing_is_read(calls, monkeypatch, wrong):
    monkeypatch.setenv(PASSWORD, wrong)
    read, ping = calls()
    with pytest.raises(SeawayError, match="cannot be read"):
        read()
    with pytest.raises(RedisError):
        ping()


def test_a_password_that_feast_would_cut_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv(PASSWORD, "hunter,2")
    with pytest.raises(SeawayError, match="has a comma") as caught:
        open_feature_store(load(), tmp_path, tmp_path / "r.db", {"type": "redis", "connection": "h:1"})
    assert "hunter" not in str(caught.value)
