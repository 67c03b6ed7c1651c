"""After ``pulumi up``: the update that made the platform goes into what the platform says about itself.

    python -m infra.record --env prod

The program cannot know its own update's number. It is written beside the program's keys of the ConfigMaps
``seaway-platform`` by a field manager of its own, so that Pulumi sees no drift in it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from infra.settings import FOLDER, Settings, of_stack
from seaway.errors import SeawayError

NAME = "seaway-platform"
MANAGER = "seaway-record"


def last_update(history: list[Mapping[str, Any]], env: str) -> str:
    """Number of the stack's newest update. A backend of files gives none: there it is the place in its history."""
    if not history or (history[0]["kind"], history[0]["result"]) != ("update", "succeeded"):
        was = f"{history[0]['kind']}, {history[0]['result']}" if history else "there is none"
        raise SeawayError(f"{env} has no update that succeeded and is its last ({was}): run `make up ENV={env}`")
    return str(history[0].get("version") or len(history))


def record(env: str, folder: Path = FOLDER) -> tuple[str, list[str]]:
    """The update's number, and the namespaces that have it now. SeawayError where there is no such platform."""
    history = _pulumi(folder, "stack", "history", "--stack", env, "--json", "--page-size", "100000")
    update, api = last_update(json.loads(history), env), _api(of_stack(env, folder), folder)
    found = _call(api, "GET", f"/api/v1/configmaps?fieldSelector=metadata.name={NAME}")["items"]
    written = [i["metadata"]["namespace"] for i in found if i["data"].get("stack", "").rpartition("/")[2] == env]
    for namespace in written:
        meta = {"name": NAME, "namespace": namespace}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"update": update}}
        path = f"/api/v1/namespaces/{namespace}/configmaps/{NAME}?fieldManager={MANAGER}&force=true"
        _call(api, "PATCH", path, body)
    if not written:
        raise SeawayError(f"no namespace has a ConfigMap {NAME} of stack {env}: is the kubeconfig that of its cluster?")
    return update, written


def _pulumi(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(["pulumi", "--cwd", folder, *words], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise SeawayError("pulumi is not on PATH: install it, see https://www.pulumi.com/docs/install") from None
    if done.returncode:
        raise SeawayError(f"`pulumi {' '.join(words)}` failed: {done.stderr.strip()}")
    return done.stdout


def _api(settings: Settings, folder: Path) -> Any:
    """The API server of the platform's cluster."""
    from kubernetes import config

    stack, context = settings.cluster.stack, settings.cluster.context
    if stack:
        words = ("stack", "output", "kubeconfig", "--show-secrets", "--stack", stack.rpartition("/")[2])
        return config.new_client_from_config_dict(yaml.safe_load(_pulumi(folder / "cluster", *words)))
    file = settings.cluster.kubeconfig and str(folder / Path(settings.cluster.kubeconfig).expanduser())
    return config.new_client_from_config(file, context)


def _call(api: Any, method: str, path: str, body: Any = None) -> Any:
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    headers = {"Accept": "application/json", "Content-Type": "application/apply-patch+yaml"}
    try:
        answer = api.call_api(
            path, method, header_params=headers, body=body, auth_settings=["BearerToken"], _preload_content=False
        )
    except (ApiException, HTTPError) as error:
        raise SeawayError(f"the cluster refused {method} {path}: {error}") from None
    return json.loads(answer[0].data)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m infra.record", description=__doc__.splitlines()[0])
    parser.add_argument("--env", required=True, help="the stack: dev, staging or prod")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of the Pulumi project (default: %(default)s)")
    args = parser.parse_args()
    try:
        update, namespaces = record(args.env, args.folder)
    except SeawayError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"update {update} of {args.env} is recorded in {', '.join(namespaces)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
