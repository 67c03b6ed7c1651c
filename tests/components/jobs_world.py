"""A Ray that is there already, and an API server whose RayJobs run as processes of this machine."""

from __future__ import annotations

import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from seaway.errors import NotFound


@pytest.fixture(scope="module")
def ray_head(tmp_path_factory):
    """Address and environment of a Ray with two cores that asks for a token, as KubeRay's do."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    folder = Path(f"/tmp/seaway-test-ray-{os.getpid()}")
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    token["RAY_worker_niceness"] = "0"  # else whatever runs beside this test starves the trials
    start = ["-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=2", f"--port={port}"]
    options = ["--node-ip-address=127.0.0.1", "--include-dashboard=false", f"--temp-dir={folder}"]
    log = (tmp_path_factory.mktemp("ray") / "log").open("w+")
    options += ["--object-store-memory=100000000"]
    head = subprocess.Popen(
        [sys.executable, *start, *options],
        env={**os.environ, **token},
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        until = time.monotonic() + 60
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert head.poll() is None and time.monotonic() < until, Path(log.name).read_text()
            time.sleep(0.2)
        yield f"127.0.0.1:{port}", token
    finally:
        head.terminate()
        with suppress(subprocess.TimeoutExpired):
            head.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(head.pid, signal.SIGKILL)  # what a busy machine has not got round to end
        head.wait(10)
        subprocess.run(["rm", "-rf", str(folder)], check=False)


class Played:
    """An API server whose RayJobs run as processes on this machine."""

    def __init__(self, address, environment, folder):
        self.address, self.environment, self.folder = address, {**os.environ, **environment}, folder
        self.objects, self.processes, self.made = {}, {}, 0

    def create(self, path, body):
        name, self.made = body["metadata"]["name"], self.made + 1
        entry = shlex.split(body["spec"]["entrypoint"])
        assert entry[0] == "python"
        entry += ["--address", self.address, "--home", str(self.folder / f"pod-{self.made}")]
        log = (self.folder / f"log-{self.made}").open("w")
        self.objects[name] = body
        self.processes[name] = subprocess.Popen([sys.executable, *entry[1:]], env=self.environment, stderr=log)

    def get(self, path):
        name = path.rpartition("/")[2]
        if name not in self.objects:
            raise NotFound(name)
        code = self.processes[name].poll()
        status = {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}
        if code is not None:
            end = ("Complete", "SUCCEEDED", "") if code == 0 else ("Failed", "FAILED", "AppFailed")
            status = dict(zip(("jobDeploymentStatus", "jobStatus", "reason"), end, strict=True))
        return {**self.objects[name], "status": status}

    def delete(self, path):
        name = path.rpartition("/")[2]
        if self.objects.pop(name, None) is None:
            raise NotFound(name)
        self.processes[name].kill()
        self.processes[name].wait()
