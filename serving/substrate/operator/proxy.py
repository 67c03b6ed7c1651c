"""The one Envoy: started, given its configuration by files, asked what it does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp

from seaway.artifacts import write_json
from seaway.errors import SeawayError
from serving.substrate import envoy
from serving.substrate.operator.child import Child, last_lines


class Proxy:
    """Envoy under the operator. ``port`` is the same for its whole life, also when Envoy is restarted."""

    def __init__(self, binary: Path, folder: Path, log: Path, edges_ms: Sequence[int], port: int = 0):
        self.binary, self.folder, self.log, self.edges_ms, self.port = binary, folder, log, edges_ms, port
        self.admin = ""
        self.child: Child | None = None
        self._version = 0

    async def start(self, session: aiohttp.ClientSession) -> None:
        """Start Envoy and wait until it listens; SeawayError with its last log lines when it does not."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, empty in (("clusters.json", envoy.clusters([], {}, "0")), ("routes.json", envoy.routes([], "0"))):
            if not (self.folder / name).exists():
                write_json(self.folder / name, empty)
        write_json(self.folder / "bootstrap.json", envoy.bootstrap(str(self.folder), self.port, self.edges_ms))
        address = self.folder / "admin"
        address.unlink(missing_ok=True)
        command = [str(self.binary), "-c", str(self.folder / "bootstrap.json"), "--concurrency", "1"]
        command += ["--disable-hot-restart", "--admin-address-path", str(address), "-l", "warning"]
        self.child = Child(command, self.log)
        deadline = monotonic() + 20
        while True:
            if self.child.exited() is not None or monotonic() > deadline:
                self.child.kill()
                raise SeawayError(f"Envoy did not start. The end of {self.log}:\n{last_lines(self.log)}")
            self.admin = f"http://{address.read_text().strip()}" if address.exists() else ""
            if self.admin != "http://" and self.admin and await self._listening(session):
                return
            await asyncio.sleep(0.02)

    async def _listening(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(f"{self.admin}/ready") as answer:
                if answer.status != 200:
                    return False
            listeners = json.loads(await self.get(session, "/listeners?format=json"))["listener_statuses"]
        except (aiohttp.ClientError, TimeoutError, OSError, KeyError):
            return False
        if not listeners:
            return False
        self.port = listeners[0]["local_address"]["socket_address"]["port_value"]
        return True

    async def get(self, session: aiohttp.ClientSession, path: str) -> str:
        async with session.get(f"{self.admin}{path}") as answer:
            answer.raise_for_status()
            return await answer.text()

    async def put_clusters(
        self,
        session: aiohttp.ClientSession,
        backends: Sequence[envoy.Backend],
        groups: Mapping[str, Sequence[str]],
    ) -> None:
        """Give Envoy these clusters and wait until it has them."""
        await self._put(session, "clusters.json", "cluster_manager.cds", lambda v: envoy.clusters(backends, groups, v))

    async def put_routes(self, session: aiohttp.ClientSession, listed: Sequence[envoy.Route]) -> None:
        """Give Envoy these routes and wait until it follows them."""
        await self._put(session, "routes.json", f"http.seaway.rds.{envoy.ROUTES}", lambda v: envoy.routes(listed, v))

    async def _put(self, session: aiohttp.ClientSession, name: str, stat: str, build: Any) -> None:
        self._version += 1
        version = f"{self.child.pid if self.child else 0}.{self._version}"
        write_json(self.folder / name, build(version))
        deadline = monotonic() + 10
        wanted = f"{stat}.version_text"
        while True:
            text = await self.get(session, f"/stats?filter=^{wanted}$&type=TextReadouts")
            if f'{wanted}: "{version}"' in text:
                return
            if monotonic() > deadline:
                raise SeawayError(f"Envoy did not take {name}. The end of {self.log}:\n{last_lines(self.log)}")
            await asyncio.sleep(0.005)

    async def active(self, session: aiohttp.ClientSession, cluster: str) -> int:
        """Requests that the cluster has not answered yet."""
        text = await self.get(session, f"/stats?filter=^cluster.{cluster}.upstream_rq_(active|pending_active)$")
        return sum(int(line.rsplit(": ", 1)[1]) for line in text.splitlines() if ": " in line)
