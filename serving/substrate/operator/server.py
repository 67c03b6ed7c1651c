"""One predictor's server: started as Seldon starts it in a pod, probed, restarted when it crashes."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp

from seaway.artifacts import record_hash
from seaway.errors import SeawayError
from serving.manifests import model_class, parameters
from serving.microservice import BIND
from serving.substrate.operator.child import Child, free_ports, reason

STARTUP = 60.0  # seconds until a start that does not become ready counts as failed
FAILED_STARTS = 2  # of a server that was never ready: it is called failed
_BOOT_ERROR = 3  # gunicorn's exit status when the model did not load
_PROBE, _LIVENESS, _LIVENESS_FAILURES = 0.1, 2.0, 5
_DROPPED = ("VIRTUAL_ENV", "PYTHONHOME", "PROMETHEUS_MULTIPROC_DIR")


def cluster_name(deployment: str, predictor: dict[str, Any]) -> str:
    """Unique for the predictor's definition, its traffic aside: a changed definition is another server."""
    definition = {k: v for k, v in predictor.items() if k not in ("traffic", "replicas")}
    return f"{deployment}_{predictor['name']}_{record_hash(definition)[:8]}"


@dataclass
class Server:
    """State of one server; ``tick`` moves it on and never blocks."""

    deployment: str
    predictor: dict[str, Any]
    python: Path
    scratch: Path
    logs: Path
    child: Child | None = None
    ready: bool = False
    was_ready: bool = False  # since it came: it keeps its traffic when it crashes, and is charged for it
    crashes: int = 0
    failed_starts: int = 0
    problem: str = ""
    page: str = ""  # its Prometheus page as last read
    retired: float | None = None
    stopped: bool = False
    ports: list[int] = field(default_factory=list)
    _next: float = 0.0  # when to start, or to probe
    _started: float = 0.0
    _misses: int = 0

    @property
    def name(self) -> str:
        return self.predictor["name"]

    @property
    def cluster(self) -> str:
        return cluster_name(self.deployment, self.predictor)

    @property
    def log(self) -> Path:
        return self.logs / f"{self.cluster}.log"

    async def tick(self, session: aiohttp.ClientSession) -> None:
        now = monotonic()
        if self.child is None:
            if now >= self._next:
                self._start(now)
            return
        code = self.child.exited()
        if code is not None:
            self._failed(now, f"its server ended with status {code}", code)
            return
        if now < self._next:
            return
        healthy = await self._healthy(session)
        self._next = monotonic() + (_LIVENESS if self.ready else _PROBE)
        if healthy:
            self.ready = self.was_ready = True
            self.failed_starts, self._misses, self.problem = 0, 0, ""
        elif self.ready:
            self._misses += 1
            if self._misses >= _LIVENESS_FAILURES:
                self.child.kill()
                self._failed(now, "its server stopped answering")
        elif now - self._started > STARTUP:
            self.child.kill()
            self._failed(now, f"its server was not ready after {STARTUP:.0f} s")

    def _start(self, now: float) -> None:
        try:
            command, environment = self._command()
        except SeawayError as error:
            self.failed_starts += FAILED_STARTS  # nothing to wait for
            self._next, self.problem = now + 5, str(error)
            return
        self._started = self._next = now
        self.child = Child(command, self.log, environment)

    def _command(self) -> tuple[list[str], dict[str, str]]:
        if not self.python.exists():
            raise SeawayError(f"the serving environment's Python {self.python} does not exist: run `make setup`")
        given = parameters(self.predictor)
        bundle = given.get("bundle")
        if bundle is not None and not (Path(bundle) / "model.onnx").exists():
            raise SeawayError(f"predictor {self.name!r}: there is no model bundle at {bundle}")
        if not (self.was_ready and self.ports):
            self.ports = free_ports(2)
        folder = self.scratch / self.cluster  # the same after a crash: its counts go on
        folder.mkdir(parents=True, exist_ok=True)
        environment = {k: v for k, v in os.environ.items() if k not in _DROPPED}
        environment |= {
            # as Seldon's operator sets them in a pod
            "SELDON_DEPLOYMENT_ID": self.deployment,
            "PREDICTOR_ID": self.name,
            "PREDICTOR_LABELS": json.dumps(self.predictor.get("labels", {})),
            "PREDICTIVE_UNIT_ID": self.predictor["graph"]["name"],
            "PREDICTIVE_UNIT_PARAMETERS": json.dumps(self.predictor["graph"].get("parameters", [])),
            "PREDICTIVE_UNIT_HTTP_SERVICE_PORT": str(self.ports[0]),
            "PREDICTIVE_UNIT_METRICS_SERVICE_PORT": str(self.ports[1]),
            "MODEL_NAME": model_class(self.predictor),
            "SELDON_LOG_LEVEL": "WARNING",
            "PROMETHEUS_MULTIPROC_DIR": str(folder),
            "TMPDIR": str(self.scratch),
            "PYTHONDONTWRITEBYTECODE": "1",
            BIND: "127.0.0.1",
        }
        if sys.version_info < (3, 12):  # Seldon needs distutils alone: not importing setuptools saves a third
            environment["SETUPTOOLS_USE_DISTUTILS"] = "stdlib"
        return [str(self.python), "-m", "serving.microservice"], environment

    def _failed(self, now: float, what: str, code: int | None = None) -> None:
        self.problem = f"predictor {self.name!r}: {what}. From {self.log}:\n{reason(self.log)}"
        if self.was_ready:
            self.crashes += 1
        else:  # a model that does not load will not load the next time
            self.failed_starts += FAILED_STARTS if code == _BOOT_ERROR else 1
        tries = self.crashes + self.failed_starts
        self.child, self.ready, self._misses = None, False, 0
        self._next = now + min(10.0, 0.1 * 2 ** min(tries, 8))

    async def _healthy(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(f"http://127.0.0.1:{self.ports[0]}/health/status") as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def read_page(self, session: aiohttp.ClientSession) -> str:
        """The server's Prometheus page; while it is down, the last one that was read."""
        if self.ready:
            try:
                async with session.get(f"http://127.0.0.1:{self.ports[1]}/metrics") as answer:
                    if answer.status == 200:
                        self.page = await answer.text()
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass
        return self.page

    def terminate(self) -> None:
        """Let it answer what it has and stop."""
        if self.child is not None:
            self.child.terminate()

    def gone(self) -> bool:
        return self.child is None or self.child.exited() is not None
