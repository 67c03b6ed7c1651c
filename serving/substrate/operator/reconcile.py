"""The operator's loop: make what runs follow the released objects.

The order of every change keeps callers served: a new server is routed to only once it is ready; Envoy has
a cluster before a route names it; a server leaves the route first, then answers what it has, then stops.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp

from seaway.errors import SeawayError
from serving import manifests
from serving.substrate import envoy
from serving.substrate.base import AVAILABLE, CREATING, FAILED, NotFound, Status
from serving.substrate.operator.proxy import Proxy
from serving.substrate.operator.server import FAILED_STARTS, Server, cluster_name
from serving.substrate.store import ObjectStore

TICK = 0.05  # seconds
STOP = 8.0  # seconds that a stopping server has to answer what it holds


def shared(wanted: dict[str, int], routed: dict[str, str | None]) -> dict[str, int]:
    """Percentages by cluster: what a predictor without a cluster would get goes to the others in proportion.

    ``wanted``: percentages by predictor; ``routed``: the cluster by predictor, None while not ready.
    Whole numbers that sum to 100, or empty when no predictor with traffic is ready.
    """
    live = {routed[name]: weight for name, weight in wanted.items() if routed.get(name) and weight > 0}
    total = sum(live.values())
    if not total:
        return {}
    exact = {cluster: 100 * weight / total for cluster, weight in live.items()}
    whole = {cluster: int(value) for cluster, value in exact.items()}
    for cluster in sorted(exact, key=lambda c: whole[c] - exact[c])[: 100 - sum(whole.values())]:
        whole[cluster] += 1
    return whole


class Operator:
    """All servers and the proxy of one home. ``run`` works until ``stopping`` is set."""

    def __init__(self, store: ObjectStore, proxy: Proxy, python: Path, scratch: Path, logs: Path, timeout_ms: int):
        self.store, self.proxy, self.timeout_ms = store, proxy, timeout_ms
        self.python, self.scratch, self.logs = python, scratch, logs
        self.objects: dict[str, dict[str, Any]] = {}
        self.servers: dict[str, Server] = {}  # by cluster
        self.routes: list[envoy.Route] = []  # as Envoy follows them
        self.routed: dict[str, int] = {}  # generation by deployment, as of those routes
        self.stopping = asyncio.Event()
        self._mark: Any = None
        self._clusters: Any = None
        self._groups: dict[str, list[str]] = {}

    async def run(self, session: aiohttp.ClientSession) -> None:
        try:
            while not self.stopping.is_set():
                try:
                    await self.step(session)
                except (SeawayError, aiohttp.ClientError, TimeoutError, OSError) as error:
                    # such as Envoy gone in the middle of a change: the next step sees to it
                    print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
                    self._clusters = None
                    await asyncio.sleep(10 * TICK)
                await asyncio.sleep(TICK)
        finally:
            await self._stop()

    async def step(self, session: aiohttp.ClientSession) -> None:
        """One look and what follows from it."""
        mark = self.store.mark()
        if mark != self._mark:
            self.objects = self._read()
            self._mark = mark
        if self.proxy.child is None or self.proxy.child.exited() is not None:
            self._clusters = None
            await self.proxy.start(session)
        desired = self._desired()
        for cluster, (name, predictor) in desired.items():
            if cluster not in self.servers:
                self.servers[cluster] = Server(name, predictor, self.python, self.scratch, self.logs)
            self.servers[cluster].retired = None
        await asyncio.gather(*(s.tick(session) for s in self.servers.values() if s.retired is None))
        await self._route(session)
        await self._retire(session, desired)

    def _read(self) -> dict[str, dict[str, Any]]:
        """The stored objects; of one that was broken by hand, the last good state."""
        found = {}
        for name in self.store.names():
            try:
                found[name] = self.store.read(name)
                manifests.validate(found[name])
            except (NotFound, FileNotFoundError):
                continue
            except (SeawayError, ValueError) as error:
                print(f"the object {name!r} is not followed: {error}", file=sys.stderr, flush=True)
                found.pop(name, None)
                if name in self.objects:
                    found[name] = self.objects[name]
        return found

    def _desired(self) -> dict[str, tuple[str, dict[str, Any]]]:
        return {
            cluster_name(name, p): (name, p) for name, obj in self.objects.items() for p in obj["spec"]["predictors"]
        }

    def _serving(self, deployment: str, predictor: dict[str, Any]) -> str | None:
        """The cluster that answers for a predictor: its own once ready, before that its previous definition's."""
        own = cluster_name(deployment, predictor)
        if own in self.servers and self.servers[own].was_ready:
            return own
        now = self._routed_to()
        for cluster, server in self.servers.items():
            if (server.deployment, server.name) == (deployment, predictor["name"]) and cluster in now:
                return cluster
        return None

    def _routed_to(self) -> set[str]:
        """Clusters that get requests now, or copies of them."""
        return {c for r in self.routes for c in r.weights} | {r.mirror[0] for r in self.routes if r.mirror}

    async def _route(self, session: aiohttp.ClientSession) -> None:
        listed = []
        for name, obj in self.objects.items():
            routed = {p["name"]: self._serving(name, p) for p in obj["spec"]["predictors"]}
            weights = shared(manifests.weights(obj), routed)
            prefix = f"/seldon/{obj['metadata'].get('namespace', 'default')}/{name}"
            names = {cluster: predictor for predictor, cluster in routed.items() if cluster}
            listed.append(envoy.Route(prefix, weights, self.timeout_ms, names, self._mirror(obj, routed)))
        if listed != self.routes or self._clusters is None:
            # the old groups stay until their last request is answered
            await self._put_clusters(session, {**self._groups, **envoy.groups(listed)})
            await self.proxy.put_routes(session, listed)
            self.routes = listed
        self.routed = {name: obj["metadata"]["generation"] for name, obj in self.objects.items()}

    def _mirror(self, obj: dict[str, Any], routed: dict[str, str | None]) -> tuple[str, int] | None:
        """Where copies go and of how many percent. A shadow that is not ready gets none, and nobody waits for it."""
        name = manifests.shadow(obj)
        cluster = routed[name] if name else None
        if name is None or cluster is None or not self.servers[cluster].ready:
            return None
        return cluster, manifests.predictors(obj)[name]["traffic"]

    async def _put_clusters(self, session: aiohttp.ClientSession, groups: dict[str, list[str]]) -> None:
        backends = [envoy.Backend(s.name, c, s.ports[0]) for c, s in sorted(self.servers.items()) if s.was_ready]
        known = {b.cluster for b in backends}
        groups = {c: [b for b in behind if b in known] for c, behind in groups.items() if c in known}
        if (backends, groups) != self._clusters:
            await self.proxy.put_clusters(session, backends, groups)
            self._clusters, self._groups = (backends, groups), groups

    async def _retire(self, session: aiohttp.ClientSession, desired: dict[str, Any]) -> None:
        """Servers that nothing asks for or is routed to: drain, forget, stop."""
        used = self._routed_to() | set(desired)
        for cluster, server in list(self.servers.items()):
            if cluster in used:
                continue
            now = monotonic()
            if server.retired is None:
                server.retired = now
            late = now - server.retired > self.timeout_ms / 1000 + 1
            settled = now - server.retired > 2 * TICK  # requests that were routed before the change
            if not server.stopped and (late or (settled and not await self._busy(session, cluster))):
                server.stopped, server.retired = True, now
                server.was_ready = False  # out of Envoy before it stops
                await self._put_clusters(session, envoy.groups(self.routes))
                server.terminate()
            if server.stopped and (server.gone() or now - server.retired > STOP):
                if server.child:
                    server.child.kill()
                del self.servers[cluster]

    async def _busy(self, session: aiohttp.ClientSession, cluster: str) -> bool:
        return self.servers[cluster].was_ready and await self.proxy.active(session, cluster) > 0

    async def _stop(self) -> None:
        children = [s for s in self.servers.values() if s.child]
        if self.proxy.child:
            self.proxy.child.terminate()
        for server in children:
            server.terminate()
        deadline = monotonic() + STOP
        while monotonic() < deadline and not all(s.gone() for s in children):
            await asyncio.sleep(0.02)
        for child in [s.child for s in children] + [self.proxy.child]:
            if child:
                child.kill()

    def status(self, name: str) -> Status:
        """What runs for one deployment; KeyError when there is none.

        The state is that of the predictors that callers reach. A shadow that does not start or crashes is in
        ``ready``, ``restarts`` and ``message``, and holds nothing else up.
        """
        obj = self.objects[name]
        listed = manifests.predictors(obj)
        servers = {p: self.servers.get(cluster_name(name, record)) for p, record in listed.items()}
        reached = {p: s for p, s in servers.items() if not listed[p].get("shadow")}
        ready = {p: bool(s and s.ready) for p, s in servers.items()}
        prefix = f"/seldon/{obj['metadata'].get('namespace', 'default')}/{name}"
        weights: dict[str, int] = {}
        for route in self.routes:
            if route.prefix == prefix:
                weights = {self.servers[c].name: w for c, w in route.weights.items()}
        problems = [s.problem for s in servers.values() if s and s.problem]
        generation = self.routed.get(name, 0)
        wanted = {p: w for p, w in manifests.weights(obj).items() if w}
        state = CREATING
        if all(ready[p] for p in reached) and weights == wanted and generation == obj["metadata"]["generation"]:
            state = AVAILABLE
        elif any(s and s.failed_starts >= FAILED_STARTS for s in reached.values()):
            state = FAILED
        return Status(
            ready=ready,
            weights=weights,
            url=f"http://127.0.0.1:{self.proxy.port}{prefix}",
            state=state,
            message="\n".join(problems),
            generation=generation,
            restarts={p: s.crashes if s else 0 for p, s in servers.items()},
        )
