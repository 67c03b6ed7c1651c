"""The cluster program on a real engine, for a cluster that exists: no cloud is needed, nothing is made."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from infra.cluster import settings

pytestmark = [
    pytest.mark.infra,
    pytest.mark.skipif(not shutil.which("pulumi"), reason="pulumi is not on PATH"),
]
KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
    "users": [{"name": "u", "user": {"token": "very-secret"}}],
    "contexts": [{"name": "there", "context": {"cluster": "c", "user": "u"}}],
}


class Stack:
    """A project beside the real one, on a backend of its own, that runs the real program."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "state").mkdir()
        (folder / "kubeconfig").write_text(yaml.safe_dump(KUBECONFIG))
        project = yaml.safe_load((settings.FOLDER / "Pulumi.yaml").read_text())
        project["runtime"]["options"]["virtualenv"] = sys.prefix
        (folder / "Pulumi.yaml").write_text(yaml.safe_dump({**project, "main": str(settings.FOLDER)}))
        self.env = os.environ | {
            "PULUMI_BACKEND_URL": f"file://{folder}/state",
            "PULUMI_CONFIG_PASSPHRASE": "of-tests",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
        }
        self.pulumi("stack", "init", "dev")
        self.salt = yaml.safe_load((folder / "Pulumi.dev.yaml").read_text())

    def pulumi(self, *words: str, **given: object) -> subprocess.CompletedProcess:
        """Run a command, with these settings in the stack's file where there are some."""
        if given:
            data = {f"{settings.PROJECT}:settings": {"provider": "existing", "name": "test", **given}}
            (self.folder / "Pulumi.dev.yaml").write_text(yaml.safe_dump({**self.salt, "config": data}))
        command = ["pulumi", "--cwd", str(self.folder), "--non-interactive", *words]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def stack(tmp_path_factory) -> Stack:
    return Stack(tmp_path_factory.mktemp("cluster"))


def test_a_context_becomes_a_stack_whose_kubeconfig_is_secret(stack):
    there = {"context": "there", "kubeconfig": str(stack.folder / "kubeconfig")}
    up = stack.pulumi("up", "--yes", "--stack", "dev", **there)
    assert up.returncode == 0, up.stdout + up.stderr
    assert "very-secret" not in up.stdout
    again = stack.pulumi("preview", "--expect-no-changes", "--stack", "dev")
    assert again.returncode == 0, again.stdout + again.stderr
    outputs = json.loads(stack.pulumi("stack", "output", "--json", "--stack", "dev").stdout)
    assert outputs["kubeconfig"] == "[secret]" and outputs["identifier"].startswith("test-")
    assert set(outputs) == {"kubeconfig", "identifier", "node_pools", "estimate"}
    shown = stack.pulumi("stack", "output", "kubeconfig", "--show-secrets", "--stack", "dev").stdout
    assert yaml.safe_load(shown)["users"][0]["user"] == {"token": "very-secret"}
    assert all("very-secret" not in f.read_text() for f in (stack.folder / "state").rglob("*.json"))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"context": "away", "kubeconfig": "kubeconfig"}, "has no context 'away'; it has: there"),
        ({"contxt": "there"}, "unknown key 'contxt': did you mean context?"),
        ({"provider": "aws"}, "provider aws needs region"),
        (
            {"context": "there", "priced_as": "aws", "region": "us-east-1",
             "pools": {"all": {"machine": "m7i.4xlarge", "min": 9, "max": 9}}},
            "below the estimate",
        ),
    ],
    ids=["context", "spelling", "region", "budget"],
)  # fmt: skip
def test_what_is_refused_is_told_without_a_traceback(stack, given, told):
    if "kubeconfig" in given:
        given = {**given, "kubeconfig": str(stack.folder / "kubeconfig")}
    preview = stack.pulumi("preview", "--stack", "dev", **given)
    said = preview.stdout + preview.stderr
    assert preview.returncode != 0 and told in said and "Traceback" not in said
