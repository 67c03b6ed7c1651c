"""A real Pulumi engine for tests: a copy of the platform program, a backend of files, one stack at a time."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from infra.settings import FOLDER, PROJECT
from tests.infra.api_server import Refused, Server
from tests.infra.rendering import CONFIG

_LEFT_OUT = shutil.ignore_patterns("__pycache__", "venv", "resolved")
_CHANGE = re.compile(r"^ *[-~+]{1,2} +(kubernetes:\S+) (\S+) (?:create|update|delete|replace)d?\b", re.MULTILINE)


@dataclass(frozen=True)
class Done:
    code: int
    said: str
    seconds: float

    @property
    def changed(self) -> set[str]:
        """Names of the resources that this command listed as new, other or gone."""
        return {name for _, name in _CHANGE.findall(self.said)}


class Project:
    """The platform program as it is, in ``folder``, beside what it reads of the repository."""

    def __init__(self, folder: Path) -> None:
        self.root, self.folder = folder, folder / "infra"
        shutil.copytree(FOLDER, self.folder, ignore=_LEFT_OUT)
        shutil.copytree(FOLDER.parent / "dashboards", folder / "dashboards")
        (folder / "state").mkdir()
        for place in (self.folder, self.folder / "cluster"):
            about = yaml.safe_load((place / "Pulumi.yaml").read_text())
            about["runtime"]["options"]["virtualenv"] = sys.prefix
            (place / "Pulumi.yaml").write_text(yaml.safe_dump(about))
        self.env = os.environ | {
            "PULUMI_BACKEND_URL": f"file://{folder}/state",
            "PULUMI_CONFIG_PASSPHRASE": "of-tests",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_ERROR_OUTPUT_STRING": "true",
            "PYTHONPATH": str(folder),  # else it would run what is installed, and read that one's stacks
        }

    def pulumi(self, *words: str, part: str = ".", check: bool = True) -> Done:
        command = ["pulumi", "--cwd", str(self.folder / part), "--non-interactive", "--color", "never", *words]
        began = time.monotonic()
        done = subprocess.run(command, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        made = Done(done.returncode, done.stdout, time.monotonic() - began)
        assert not check or made.code == 0, f"pulumi {' '.join(words)}\n{made.said}"
        return made


class Stack:
    """One of the shipped stacks, with other values where the test's cluster asks for them."""

    def __init__(self, project: Project, name: str, change: Any, provider: str = "passphrase") -> None:
        self.project, self.name = project, name
        self.file = project.folder / f"Pulumi.{name}.yaml"
        shipped = yaml.safe_load((FOLDER / self.file.name).read_text())
        change(shipped["config"][f"{PROJECT}:settings"])
        self.file.write_text(yaml.safe_dump(shipped))
        project.pulumi("stack", "init", name, "--secrets-provider", provider)
        secrets = [word for key, value in CONFIG.items() for word in ("--secret", f"{key}={value}")]
        project.pulumi("config", "set-all", "--stack", name, *secrets)

    def __enter__(self) -> Stack:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind:  # the next test needs the cluster
            self.run("state", "unprotect", "--all", "--yes", check=False)
            self.destroy(check=False)
        self.project.pulumi("stack", "rm", self.name, "--yes", "--force", check=False)

    def run(self, *words: str, check: bool = True) -> Done:
        return self.project.pulumi(*words, "--stack", self.name, check=check)

    def up(self, *words: str, check: bool = True) -> Done:
        return self.run("up", "--yes", "--skip-preview", *words, check=check)

    def refresh(self) -> Done:
        """What the cluster has otherwise than the last update left it. Nothing is written."""
        return self.run("refresh", "--preview-only", "--expect-no-changes", check=False)

    def destroy(self, check: bool = True) -> Done:
        return self.run("destroy", "--yes", "--skip-preview", check=check)

    def unchanged(self) -> Done:
        """An update that must find nothing to do."""
        return self.up("--expect-no-changes", check=False)

    def resources(self) -> list[dict[str, Any]]:
        """Of the state, without the stack itself, its parts and its providers."""
        listed = json.loads(self.run("stack", "export").said)["deployment"].get("resources", [])
        return [r for r in listed if r["type"].startswith("kubernetes:")]

    def set(self, change: Any) -> None:
        """Other settings."""
        written = yaml.safe_load(self.file.read_text())
        change(written["config"][f"{PROJECT}:settings"])
        self.file.write_text(yaml.safe_dump(written))


class Volumes:
    """Stands in for a cloud's storage: every claim that waits gets a volume."""

    def __init__(self, server: Server) -> None:
        self._server, self._over = server, threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Volumes:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(30)
        for volume in self._server.call("GET", "/api/v1/persistentvolumes")["items"]:
            self._server.delete({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": volume["metadata"]})

    def _serve(self) -> None:
        while not self._over.wait(0.5):
            for claim in self._server.call("GET", "/api/v1/persistentvolumeclaims")["items"]:
                if claim.get("status", {}).get("phase") == "Pending" and "volumeName" not in claim["spec"]:
                    try:
                        self._server.create(_volume(claim), dry=False)
                    except Refused as refused:
                        assert refused.status == 409, refused


def _volume(claim: Mapping[str, Any]) -> dict[str, Any]:
    meta, spec = claim["metadata"], claim["spec"]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"test-{meta['uid']}"},
        "spec": {
            "accessModes": spec["accessModes"],
            "capacity": spec["resources"]["requests"],
            "claimRef": {"namespace": meta["namespace"], "name": meta["name"]},
            "hostPath": {"path": "/nowhere"},
            "persistentVolumeReclaimPolicy": "Delete",
        },
    }


class KeyService:
    """A key service of this machine's own, with one key."""

    def __enter__(self) -> KeyService:
        import boto3
        from moto.server import ThreadedMotoServer

        self._service = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._service.start()
        host, port = self._service.get_host_and_port()
        self.key = "awskms://alias/seaway?region=eu-central-1&awssdk=v2"
        self.env = {
            "AWS_ENDPOINT_URL_KMS": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "of-tests",
            "AWS_SECRET_ACCESS_KEY": "of-tests",
        }
        place = {"endpoint_url": self.env["AWS_ENDPOINT_URL_KMS"], "region_name": "eu-central-1"}
        client = boto3.client("kms", **place, aws_access_key_id="of-tests", aws_secret_access_key="of-tests")
        client.create_alias(AliasName="alias/seaway", TargetKeyId=client.create_key()["KeyMetadata"]["KeyId"])
        return self

    def __exit__(self, *_: object) -> None:
        self._service.stop()


# what comes and goes by itself, or is the test's own
_MOVING = {
    "events",
    "apiservices",
    "leases",
    "endpoints",
    "endpointslices",
    "persistentvolumes",
    "componentstatuses",
    "nodes",
}


def everything(server: Server) -> set[str]:
    """ "kind namespace/name" of all that the cluster holds."""
    groups = server.call("GET", "/apis")["groups"]
    places = ["/api/v1", *(f"/apis/{g['preferredVersion']['groupVersion']}" for g in groups)]
    return {f"{kind} {name}" for place in places for kind, name in _listed(server, place)}


def _listed(server: Server, place: str) -> Iterator[tuple[str, str]]:
    for kind in server.call("GET", place)["resources"]:
        if "/" in kind["name"] or "list" not in kind["verbs"] or kind["name"] in _MOVING:
            continue
        try:
            found = server.call("GET", f"{place}/{kind['name']}")["items"]
        except Refused as refused:
            if refused.status == 404:  # its definition has just gone
                continue
            raise
        for item in found:
            meta = item["metadata"]
            yield kind["name"], f"{meta.get('namespace', '')}/{meta['name']}"
