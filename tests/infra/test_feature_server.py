"""Feast's server as the platform runs it: its own settings and commands, this project's definitions, a real Redis."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from shutil import which

import pytest

from seaway.config import project_root
from tests.infra.rendering import render

pytestmark = [
    pytest.mark.infra,
    pytest.mark.skipif(not which("redis-server"), reason="redis-server is not on PATH"),
]
PASSWORD = "of-tests"


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture
def redis(tmp_path):
    port = free_port()
    command = ["redis-server", "--port", str(port), "--requirepass", PASSWORD, "--dir", str(tmp_path)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    yield f"localhost:{port}"
    server.terminate()
    server.wait()


def words(command, file, port):
    """A container's command, with this machine's places instead of the image's."""
    root = str(project_root())
    changed = {
        "python": sys.executable,
        "/etc/feast/feature_store.yaml": str(file),
        "6566": str(port),
        "0.0.0.0": "127.0.0.1",
    }
    listed = [changed.get(word, word.replace("/app/", f"{root}/")) for word in command]
    return [word for word in listed if word != "--metrics"]  # its port is fixed, and may be taken here


def test_it_starts_and_is_ready_with_the_definitions_of_the_image(tmp_path, redis):
    rendered = render("staging")
    (made,) = [r for r in rendered.of("ConfigMap") if r.manifest["metadata"]["name"] == "feature-server"]
    text = made.props["data"]["feature_store.yaml"].replace("redis.features:6379", redis)
    file = tmp_path / "feature_store.yaml"
    file.write_text(text.replace("/tmp", str(tmp_path)))
    (deployment,) = [r for r in rendered.of("Deployment") if r.manifest["metadata"]["name"] == "feature-server"]
    pod = deployment.props["spec"]["template"]["spec"]
    env = os.environ | {"SEAWAY_REDIS_PASSWORD": PASSWORD, "HOME": str(tmp_path)}
    port = free_port()
    definitions = subprocess.run(
        words(pod["initContainers"][0]["command"], file, port), env=env, cwd=tmp_path, capture_output=True, text=True
    )
    assert definitions.returncode == 0, definitions.stdout + definitions.stderr
    server = subprocess.Popen(words(pod["containers"][0]["command"], file, port), env=env, cwd=tmp_path)
    probe = pod["containers"][0]["readinessProbe"]["httpGet"]["path"]
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{probe}", timeout=2) as answer:
                    assert answer.status == 200
                    break
            except (urllib.error.URLError, OSError):
                assert server.poll() is None and time.monotonic() < deadline
                time.sleep(0.3)
    finally:
        server.terminate()
        server.wait(30)
