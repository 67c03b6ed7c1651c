"""A sweep on a Ray that is there already: its own process tree here, started by Ray's command line."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from components.ray.address import fits
from components.ray.needs import Needs
from components.tune import keeper
from components.tune.step import tune
from seaway.artifacts import read_json
from seaway.errors import SeawayError

from .test_tune_faults import LONGER, Sweeping, kill, sweep_of, table

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
REWRITE = """
import json, sys
from ray._raylet import GcsClient
client = GcsClient(address=sys.argv[1])
known = json.loads(client.internal_kv_get(b"CLUSTER_METADATA", b"cluster"))
changed = json.dumps({**known, "ray_version": sys.argv[2]}).encode()
client.internal_kv_put(b"CLUSTER_METADATA", changed, True, b"cluster")
print(known["ray_version"])
"""


@contextmanager
def ray_head(port, folder):
    """A Ray with two cores at ``port``, up once the block begins."""
    start = ["-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=2", f"--port={port}"]
    options = ["--node-ip-address=127.0.0.1", "--include-dashboard=false", f"--temp-dir={folder}"]
    log = (Path(folder).parent / f"{Path(folder).name}-{secrets.token_hex(3)}.log").open("w+")
    head = subprocess.Popen(
        [sys.executable, *start, *options, "--object-store-memory=100000000"], stdout=log, stderr=log
    )
    try:
        until = time.monotonic() + 120
        while "Ray runtime started" not in Path(log.name).read_text():
            assert head.poll() is None and time.monotonic() < until, Path(log.name).read_text()
            time.sleep(0.2)
        yield head
    finally:
        below = psutil.Process(head.pid).children(recursive=True) if head.poll() is None else []
        head.terminate()
        head.wait(30)
        kill(below)
        Path(log.name).unlink()


@pytest.fixture(scope="module")
def address():
    """Address of a port of ours, and the folder of its Ray; both ask for the token in the environment."""
    settings = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    settings["RAY_worker_niceness"] = "0"  # else whatever runs beside this test starves the trials
    settings["RAY_gcs_rpc_server_reconnect_timeout_s"] = "5"  # a minute where nobody says so
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    folder = Path(f"/tmp/seaway-test-address-{os.getpid()}")
    yield f"127.0.0.1:{port}", folder
    shutil.rmtree(folder, ignore_errors=True)
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


def at(config, address, **changes):
    ray = config.ray.model_copy(update={"substrate": "address", "address": address})
    return config.model_copy(update={"ray": ray, **changes})


def test_a_ray_that_is_there_gives_what_one_of_our_own_gives(address, toy, toy_dataset, tmp_path, monkeypatch, capfd):
    where, folder = address
    config, spec = toy(sweep=LONGER)
    with pytest.raises(SeawayError, match=rf"no Ray answers at '{where}'.*ray\.address"):
        tune(at(config, where), spec, toy_dataset, tmp_path / "none")

    with ray_head(where.rpartition(":")[2], folder):
        known = subprocess.run([sys.executable, "-c", REWRITE, where, "1.2.3"], capture_output=True, text=True)
        assert known.returncode == 0, known.stderr
        with pytest.raises(SeawayError, match=rf"at '{where}' is of another version: .*1\.2\.3.*Install one Ray"):
            tune(at(config, where), spec, toy_dataset, tmp_path / "none")
        subprocess.run([sys.executable, "-c", REWRITE, where, known.stdout.strip()], check=True)

        large, _ = toy(sweep=sweep_of(resources={"cpu": "3"}))
        with pytest.raises(SeawayError, match=r"a trial needs 3 CPU.* no node of the Ray .* the largest has 2 CPU"):
            tune(at(large, where), spec, toy_dataset, tmp_path / "none")

        # its head goes while trials run, and comes back
        monkeypatch.setattr(keeper, "RETRY_S", 1.0)
        sweeping = Sweeping(at(config, where), spec, toy_dataset, tmp_path / "out")
        sweeping.until(lambda: len(sweeping.states()) > 2)
        for process in psutil.process_iter(["cmdline"]):
            if str(folder) in " ".join(process.info["cmdline"] or []):
                process.send_signal(signal.SIGKILL)
    sweeping.until(lambda: "does not answer; trying again" in capfd.readouterr().err)
    with ray_head(where.rpartition(":")[2], folder):
        summary = sweeping.wait()
    assert summary["epochs_kept"] >= 8 and summary["failed"] == 0
    config = config.model_copy(update={"home": tmp_path / "here"})
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name)
    tune(config, spec, toy_dataset, tmp_path / "whole")
    assert table(tmp_path / "out").equals(table(tmp_path / "whole"))
    assert read_json(tmp_path / "out" / "best.json") == read_json(tmp_path / "whole" / "best.json")


def test_a_node_takes_what_it_has_room_for():
    node = {"CPU": 8.0, "memory": float(6 << 30), "GPU": 2.0}
    assert fits(node, Needs(1, 1 << 30)) == 6
    assert fits(node, Needs(1, 1 << 30, 0.5)) == 4
    assert fits({"CPU": 8.0, "memory": 1e12}, Needs(1, 1 << 30, 1.0)) == 0
