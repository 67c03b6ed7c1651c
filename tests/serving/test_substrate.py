"""What every substrate must do, then what the local one promises beside; all with real servers and Envoy."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request

import psutil
import pytest

from seaway.config import project_root
from seaway.errors import SeawayError
from serving.manifests import Predictor, seldon_deployment, with_traffic
from serving.substrate.base import Conflict, NotFound
from serving.substrate.local import LocalSubstrate
from serving.substrate.store import ObjectStore


@pytest.fixture(scope="module")
def substrate(tmp_path_factory):
    with LocalSubstrate(tmp_path_factory.mktemp("home")) as local:
        yield local


@pytest.fixture(scope="module")
def predictor(bundles):
    def make(name, traffic, **parameters):
        kind = "serving.faults.FaultyModelServer" if parameters else "serving.model_server.ModelServer"
        return Predictor(name, traffic, bundles.make(name), bundles.store, "seaway", name, parameters, kind)

    return make


def with_canary(obj, canary, share):
    """The object with one more predictor, which takes ``share`` from the first."""
    added = seldon_deployment("x", "default", [canary])["spec"]["predictors"][0]
    changed = json.loads(json.dumps(obj))
    changed["spec"]["predictors"].append(added)
    changed["spec"]["predictors"][0]["traffic"] -= share
    added["traffic"] = share
    return changed


def post(url, body):
    request = urllib.request.Request(
        f"{url}/api/v1.0/predictions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def counts(substrate, name):
    """By predictor: one machine is one source."""
    found = {predictor: list(sources.values()) for predictor, sources in substrate.counters(name).items()}
    assert all(len(sources) == 1 for sources in found.values())
    return {predictor: sources[0] for predictor, sources in found.items()}


def process_of(home, predictor):
    """The main process of a predictor's server."""
    operator = json.loads((home / "run" / "operator.json").read_text())["pid"]
    for child in psutil.Process(operator).children():
        with contextlib.suppress(psutil.Error):  # what a test before this one has ended may not be reaped yet
            if child.environ().get("PREDICTOR_ID") == predictor:
                return child
    raise AssertionError(f"no server of {predictor}")


def test_a_release_from_first_to_last_without_a_failed_request(substrate, predictor, traffic):
    """One predictor; a canary at 10, at 50, alone: no request fails, and each split is as binomial as it must be."""
    obj = substrate.create(seldon_deployment("train", "default", [predictor("1", 100)]))
    status = substrate.wait_ready("train")
    assert status.weights == {"1": 100} and status.ready == {"1": True}
    with traffic(status.url) as load:
        time.sleep(1)
        obj = substrate.write(with_canary(obj, predictor("2", 100), 10))
        assert substrate.status("train").ready["2"] is False  # no traffic before it is ready
        assert substrate.wait_ready("train").weights == {"1": 90, "2": 10}
        ten = load.mark()
        time.sleep(4)
        obj = substrate.write(with_traffic(obj, {"1": 50, "2": 50}))
        start = time.monotonic()
        substrate.wait_ready("train")
        assert time.monotonic() - start < 5
        half = load.mark()
        time.sleep(4)
        until = load.mark()
        substrate.write(with_traffic(obj, {"2": 100}))
        substrate.wait_ready("train")
        alone = load.mark() + 5  # those under way
        time.sleep(2)
    assert set(load.statuses()) == {200}, load.statuses()
    for since, to, share in ((ten, half, 0.1), (half, until, 0.5)):
        seen = load.versions(since, to)
        n = seen["1"] + seen["2"]
        assert n > 150
        # 4.5 standard deviations: a wrong alarm in 150,000 runs
        assert abs(seen["2"] - n * share) < 4.5 * (n * share * (1 - share)) ** 0.5 + 2, seen
    assert set(load.versions(alone)) == {"2"}
    counted = counts(substrate, "train")
    assert set(counted) == {"2"}  # a retired predictor is counted no more
    assert counted["2"].requests == counted["2"].answered == load.versions()["2"]
    assert counted["2"].errors == 0
    substrate.delete("train")
    with pytest.raises(NotFound):
        substrate.read("train")
    substrate.delete("train")


def test_a_write_needs_the_version_that_was_read(substrate, predictor):
    first = substrate.create(seldon_deployment("cas", "default", [predictor("1", 100)]))
    with pytest.raises(Conflict):
        substrate.create(seldon_deployment("cas", "default", [predictor("1", 100)]))
    mine, theirs = substrate.read("cas"), substrate.read("cas")
    theirs["metadata"]["annotations"]["who"] = "they"
    second = substrate.write(theirs)
    assert second["metadata"]["generation"] == first["metadata"]["generation"]  # only the spec counts
    assert second["metadata"]["resourceVersion"] != first["metadata"]["resourceVersion"]
    with pytest.raises(Conflict):
        substrate.write(mine)
    assert substrate.read("cas") == second
    bad = json.loads(json.dumps(second))
    bad["spec"]["predictors"][0]["traffic"] = 90
    with pytest.raises(SeawayError, match="sums to 90"):
        substrate.write(bad)
    substrate.delete("cas")
    again = substrate.create(seldon_deployment("cas", "default", [predictor("1", 100)]))
    with pytest.raises(Conflict):  # the same name is not the same object
        substrate.write(second)
    assert again["metadata"]["uid"] != first["metadata"]["uid"]
    substrate.delete("cas")


def test_killing_a_predictor_costs_the_caller_nothing_and_the_predictor_its_errors(substrate, predictor, traffic):
    obj = seldon_deployment("kill", "default", [predictor("3", 70), predictor("4", 30)])
    substrate.create(obj)
    status = substrate.wait_ready("kill")
    with traffic(status.url) as load:
        time.sleep(1)
        process_of(substrate.home, "4").kill()
        down, deadline = False, time.monotonic() + 30
        while not down or not substrate.status("kill").ready["4"]:
            down = down or not substrate.status("kill").ready["4"]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(1)
    statuses = load.statuses()
    assert statuses.total() - statuses[200] <= 0.01 * statuses.total(), statuses
    counted = counts(substrate, "kill")
    assert counted["4"].errors >= 5  # what the other one answered for it
    assert counted["3"].errors == 0
    assert counted["3"].requests + counted["4"].requests == statuses.total()
    assert substrate.status("kill").restarts == {"3": 0, "4": 1}
    substrate.delete("kill")


def test_errors_and_slow_answers_are_counted_to_the_predictor_that_gave_them(substrate, predictor, traffic):
    harmed = predictor("5", 50, error_rate=0.5, latency_ms=60.0, seed=1)
    substrate.create(seldon_deployment("harm", "default", [predictor("3", 50), harmed]))
    with traffic(substrate.wait_ready("harm").url) as load:
        time.sleep(3)
    time.sleep(0.3)
    counted, statuses = counts(substrate, "harm"), load.statuses()
    assert set(statuses) == {200, 500}
    assert counted["5"].errors == statuses[500] > 10
    assert counted["3"].errors == 0
    assert counted["3"].requests + counted["5"].requests == statuses.total()
    assert counted["5"].answered == counted["5"].requests - counted["5"].errors
    assert counted["5"].slow[50] == counted["5"].requests  # each one slept for 60 ms
    assert counted["3"].slow[50] < 0.2 * counted["3"].requests
    assert counted["5"].slow[1000] == 0

    from prometheus_client.parser import text_string_to_metric_families

    with urllib.request.urlopen(substrate.metrics_url, timeout=10) as answer:
        families = {f.name: f for f in text_string_to_metric_families(answer.read().decode())}
    assert {s.labels["predictor"] for s in families["seaway_rows_answered"].samples} >= {"3", "5"}
    assert families["envoy_cluster_upstream_rq_completed"].samples
    substrate.delete("harm")


def test_what_envoy_refuses_is_json_and_slow_callers_do_not_reach_a_server(substrate, predictor, ask):
    substrate.create(seldon_deployment("edge", "default", [predictor("3", 100)]))
    url = substrate.wait_ready("edge").url
    for address, body, code in ((url, {"x": "y" * (1 << 20)}, 413), (url.replace("edge", "none"), ask(), 404)):
        with pytest.raises(urllib.error.HTTPError) as caught:
            post(address, body)
        assert caught.value.code == code
        assert json.load(caught.value)["status"]["code"] == code
    host, port = url.split("/")[2].split(":")
    held = [socket.create_connection((host, int(port))) for _ in range(40)]
    for s in held:
        s.sendall(b"POST /seldon/default/edge/api/v1.0/predictions HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n{")
    start = time.monotonic()
    assert post(url, ask())["meta"]["tags"]["model_version"] == "3"
    assert time.monotonic() - start < 2
    for s in held:
        s.close()
    envoy = next(p for p in operator(substrate.home).children() if "envoy" in p.name())
    envoy.kill()
    deadline = time.monotonic() + 20
    while True:  # the same address answers again
        try:
            assert post(url, ask())["data"]
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    substrate.delete("edge")


def test_a_predictor_that_serves_another_bundle_changes_over_without_a_failed_request(
    substrate, predictor, traffic, bundles
):
    obj = substrate.create(seldon_deployment("roll", "default", [predictor("3", 100)]))
    with traffic(substrate.wait_ready("roll").url) as load:
        time.sleep(0.5)
        for parameter in obj["spec"]["predictors"][0]["graph"]["parameters"]:
            changed = {"bundle": bundles.make("7"), "version": "7"}
            parameter["value"] = changed.get(parameter["name"], parameter["value"])
        substrate.write(obj)
        substrate.wait_ready("roll")
        new = load.mark() + 5  # those under way
        time.sleep(1)
    assert set(load.statuses()) == {200}
    assert set(load.versions()) == {"3", "7"} and set(load.versions(new)) == {"7"}
    assert counts(substrate, "roll")["3"].requests == load.versions()["7"]  # the new definition starts at none
    substrate.delete("roll")


def operator(home):
    return psutil.Process(json.loads((home / "run" / "operator.json").read_text())["pid"])


def test_a_server_that_cannot_start_is_named_with_its_reason(substrate, predictor, bundles):
    missing = Predictor("9", 100, "/nowhere/bundle", bundles.store)
    substrate.create(seldon_deployment("missing", "default", [missing]))
    with pytest.raises(SeawayError, match="no model bundle at /nowhere/bundle"):
        substrate.wait_ready("missing")
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(substrate.status("missing").url, {})
    assert caught.value.code == 503
    substrate.delete("missing")
    broken = Predictor("8", 100, bundles.make("8", feature_hash="0" * 64), bundles.store)
    substrate.create(seldon_deployment("broken", "default", [broken]))
    with pytest.raises(SeawayError, match="claims feature hash 0000"):
        substrate.wait_ready("broken")
    substrate.delete("broken")


def test_the_home_has_one_operator(substrate):
    beside = LocalSubstrate(substrate.home)
    assert beside.metrics_url == substrate.metrics_url
    with pytest.raises(SeawayError, match="is being served already, by process"):
        beside.start()


def test_objects_under_a_rollout_are_listed_and_events_are_kept(tmp_path, predictor):
    local = LocalSubstrate(tmp_path)
    for name, notes in (("under", {"seaway.dev/rollout": "{}"}), ("plain", {}), ("ended", None)):
        local.create(seldon_deployment(name, "default", [predictor("1", 100)], notes))
    assert local.names() == ["under"]
    local.event("under", "RolledBack", "errors is worse", warning=True)
    local.event("gone", "Ramp", "no object of that name is needed")
    first, second = (json.loads(line) for line in (tmp_path / "logs" / "events.jsonl").read_text().splitlines())
    assert {k: first[k] for k in ("type", "object", "reason", "message")} == {
        "type": "Warning",
        "object": "under",
        "reason": "RolledBack",
        "message": "errors is worse",
    }
    assert second["type"] == "Normal" and second["time"] >= first["time"]
    blocked = LocalSubstrate(tmp_path / "objects" / "under.json")  # no folder can be made there
    blocked.event("x", "Ramp", "never raises")


def test_no_update_is_lost_between_writers(tmp_path, predictor):
    store = ObjectStore(tmp_path)
    store.create(seldon_deployment("race", "default", [predictor("1", 100)], {"count": "0"}))

    def add():
        done = 0
        while done < 25:
            obj = store.read("race")
            obj["metadata"]["annotations"]["count"] = str(int(obj["metadata"]["annotations"]["count"]) + 1)
            try:
                store.write(obj)
                done += 1
            except Conflict:
                pass

    writers = [threading.Thread(target=add) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert store.read("race")["metadata"]["annotations"]["count"] == "100"


OWNER = """
    import sys, time
    from pathlib import Path
    from serving.substrate.local import LocalSubstrate
    substrate = LocalSubstrate(Path(sys.argv[1]))
    substrate.start()
    print(substrate.wait_ready("left").url, flush=True)
    time.sleep(600)
"""


def test_whoever_is_killed_nothing_is_left_and_the_next_start_goes_on(tmp_path, predictor, ask):
    """kill -9 of the owner, then, served again, of the operator itself."""
    ObjectStore(tmp_path / "objects").create(seldon_deployment("left", "default", [predictor("1", 100)]))
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(OWNER), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=project_root(),
    )
    url = owner.stdout.readline().strip()
    assert post(url, ask())["data"]
    family = psutil.Process(owner.pid).children(recursive=True)
    assert len(family) >= 4
    owner.kill()
    owner.wait()
    _, alive = psutil.wait_procs(family, timeout=15)
    assert not alive
    with socket.socket() as s:
        assert s.connect_ex(("127.0.0.1", int(url.split(":")[2].split("/")[0]))) != 0
    assert not (tmp_path / "run" / "operator.json").exists()

    second = LocalSubstrate(tmp_path)
    second.start()
    assert post(second.wait_ready("left").url, ask())["data"]
    family = operator(tmp_path).children(recursive=True)
    scratch = json.loads((tmp_path / "run" / "operator.json").read_text())["scratch"]
    operator(tmp_path).kill()  # the kernel ends the rest
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
    assert os.path.exists(scratch)
    second.stop()
    second.delete("left")
    with LocalSubstrate(tmp_path):
        assert not os.path.exists(scratch)
        family = [operator(tmp_path), *operator(tmp_path).children(recursive=True)]
        scratch = json.loads((tmp_path / "run" / "operator.json").read_text())["scratch"]
    assert not os.path.exists(scratch)
    assert not psutil.wait_procs(family, timeout=1)[1]
