"""What the operator answers over HTTP on loopback: /metrics, /status/<name> and /counters/<name>."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import asdict, replace
from typing import Any

import aiohttp
from aiohttp import web

from serving import manifests
from serving.metrics import ANSWERED, DECISIONS, page, total
from serving.substrate import envoy
from serving.substrate.base import Counters
from serving.substrate.operator.reconcile import Operator
from serving.substrate.operator.server import Server, cluster_name

SOURCE = "local"  # one proxy and one server count for a predictor
_SAMPLE = re.compile(r"^envoy_cluster_(\w+?)\{([^}]*)\} ([0-9.e+]+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


def count(text: str, edges_ms: tuple[int, ...]) -> Counters:
    """The counts of one predictor from Envoy's page of its aggregate cluster.

    A request is counted where the weights sent it. It is an error when Envoy gave the caller a 5xx for it, or
    when it was answered only by the stand-in (``upstream_rq_retry_success``); a timeout is slow at every edge.
    """
    values: dict[str, int] = {}
    within: dict[str, int] = {}
    for name, labels, value in _SAMPLE.findall(text):
        found = dict(_LABEL.findall(labels))
        if name == "upstream_rq_time_bucket":
            within[found["le"]] = round(float(value))
        elif name == "upstream_rq_xx":
            values[f"{found['envoy_response_code_class']}xx"] = round(float(value))
        else:
            values[name] = round(float(value))
    timed = values.get("upstream_rq_time_count", 0)
    timeouts = values.get("upstream_rq_timeout", 0)
    return Counters(
        requests=values.get("upstream_rq_completed", 0),
        errors=values.get("5xx", 0) + values.get("upstream_rq_retry_success", 0),
        slow={edge: timed - within.get(str(edge), timed) + timeouts for edge in edges_ms},
    )


class Pages:
    def __init__(self, operator: Operator, session: aiohttp.ClientSession):
        self.operator, self.session = operator, session
        self._known: dict[str, dict[str, Any]] = {}  # by cluster, as last read: Envoy may be about to come back

    def application(self) -> web.Application:
        app = web.Application()
        app.add_routes(
            [
                web.get("/metrics", self.metrics),
                web.get("/status/{name}", self.status),
                web.get("/counters/{name}", self.counters),
            ]
        )
        return app

    async def metrics(self, _: web.Request) -> web.Response:
        """Envoy's page and every server's, one text."""
        servers = [s for s in self.operator.servers.values() if s.was_ready]
        texts = await asyncio.gather(*(s.read_page(self.session) for s in servers))
        pages = [({}, await self.operator.proxy.get(self.session, "/stats/prometheus?usedonly"))]
        pages += [(_labels(s), text) for s, text in zip(servers, texts, strict=True)]
        return web.Response(text=page(pages), content_type="text/plain", charset="utf-8")

    async def status(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self.operator.objects:
            return web.json_response({}, status=404)
        return web.json_response(asdict(self.operator.status(name)))

    async def counters(self, request: web.Request) -> web.Response:
        """By predictor that callers reach and source, here one: the counts, and when they were taken."""
        name = request.match_info["name"]
        if name not in self.operator.objects:
            return web.json_response({}, status=404)
        listed = {p: r for p, r in manifests.predictors(self.operator.objects[name]).items() if not r.get("shadow")}
        found = await asyncio.gather(*(self._counters(cluster_name(name, p)) for p in listed.values()))
        return web.json_response({p: {SOURCE: c} if c else {} for p, c in zip(listed, found, strict=True)})

    async def _counters(self, cluster: str) -> dict[str, Any] | None:
        """None while Envoy is away and never told: a zero would be taken for a reset."""
        now = time.time()
        server = self.operator.servers.get(cluster)
        if server is None:
            return asdict(Counters(slow=dict.fromkeys(self.operator.proxy.edges_ms, 0))) | {"at": now}
        path = f"/stats/prometheus?filter=^cluster.{envoy.aggregate(cluster)}.upstream_rq"
        own = await server.read_page(self.session)
        try:
            text = await self.operator.proxy.get(self.session, path)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return self._known.get(cluster)  # with its own time: it may be stale
        counted = replace(
            count(text, tuple(self.operator.proxy.edges_ms)),
            decisions=total(own, DECISIONS),
            answered=total(own, ANSWERED),
        )
        self._known[cluster] = asdict(counted) | {"at": now}
        return self._known[cluster]


def _labels(server: Server) -> dict[str, str]:
    return {"deployment": server.deployment, "predictor": server.name}
