"""Envoy's configuration for the released objects, as plain dicts. Pure.

Each predictor is a cluster. The route gives every predictor an aggregate of itself and, behind it, the
other predictors that take traffic: when a connection to it cannot be made or is lost before any answer, the
one retry goes to the next of them (a prediction only reads, so asking twice does no harm). So the caller is
answered while the failure is still counted against the predictor. An answer, a 500 too, is never retried:
a second try of a failed prediction would hide the very errors that a canary is judged by.

A shadow gets copies from Envoy, which forgets them: their answers, errors and delays reach no caller and are
in no aggregate's counts. Request and copy have the same x-request-id, by which their scores are paired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from serving.substrate.base import PREDICTOR_HEADER

_TYPE = "type.googleapis.com/envoy."
MAX_BODY = 1 << 20  # bytes; larger requests get 413 before they reach a predictor
ROUTES = "seaway"


@dataclass(frozen=True)
class Backend:
    """A predictor that runs: ``cluster`` is its name in Envoy, one for each start of a new definition."""

    predictor: str
    cluster: str
    port: int


@dataclass(frozen=True)
class Route:
    """The traffic of one deployment: percentages by cluster, summing to 100, of ready backends."""

    prefix: str  # such as /seldon/default/name
    weights: Mapping[str, int]
    timeout_ms: int = 2000
    names: Mapping[str, str] = field(default_factory=dict)  # predictor by cluster, told to the caller
    mirror: tuple[str, int] | None = None  # cluster that gets copies, and of how many percent of the requests


def bootstrap(folder: str, port: int, edges_ms: Sequence[int]) -> dict[str, Any]:
    """Start configuration: one loopback listener (``port`` 0: any free one), routes and clusters from files."""
    return {
        "node": {"id": "seaway", "cluster": "seaway"},
        "admin": {"address": _address(0)},
        "dynamic_resources": {"cds_config": _file(folder, "clusters.json")},
        "static_resources": {"listeners": [_listener(folder, port)]},
        "stats_flush_interval": "0.05s",  # histograms are merged at this pace
        "stats_config": {
            "histogram_bucket_settings": [{"match": {"prefix": "cluster."}, "buckets": list(edges_ms)}],
        },
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": _TYPE
                        + "extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                        "max_active_downstream_connections": 4096,
                    },
                }
            ]
        },
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _file(folder: str, name: str) -> dict[str, Any]:
    return {
        "resource_api_version": "V3",
        "path_config_source": {"path": f"{folder}/{name}", "watched_directory": {"path": folder}},
    }


def _listener(folder: str, port: int) -> dict[str, Any]:
    manager = {
        "@type": _TYPE + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "seaway",
        "rds": {"route_config_name": ROUTES, "config_source": _file(folder, "routes.json")},
        "generate_request_id": True,  # kept where the caller sent one; both copies of a mirrored request have it
        "request_headers_timeout": "5s",  # a caller that sends slowly holds nothing behind the proxy
        "request_timeout": "10s",
        "common_http_protocol_options": {"idle_timeout": "60s", "headers_with_underscores_action": "REJECT_REQUEST"},
        # what Envoy itself answers has the form of Seldon's errors too
        "local_reply_config": {
            "body_format": {
                "json_format": {
                    "status": {
                        "status": 1,
                        "code": "%RESPONSE_CODE%",
                        "reason": "%RESPONSE_CODE_DETAILS%",
                        "info": "%LOCAL_REPLY_BODY%",
                    }
                }
            }
        },
        "http_filters": [
            {
                # whole requests only: a slow or oversized body never reaches a predictor
                "name": "envoy.filters.http.buffer",
                "typed_config": {
                    "@type": _TYPE + "extensions.filters.http.buffer.v3.Buffer",
                    "max_request_bytes": MAX_BODY,
                },
            },
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": _TYPE + "extensions.filters.http.router.v3.Router"},
            },
        ],
    }
    return {
        "name": "seaway",
        "address": _address(port),
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def clusters(backends: Sequence[Backend], groups: Mapping[str, Sequence[str]], version: str) -> dict[str, Any]:
    """The CDS file: a cluster for each backend, and for each of ``groups`` (cluster: those behind it) an aggregate."""
    resources = [_cluster(b) for b in backends]
    resources += [_aggregate(first, behind) for first, behind in groups.items()]
    return {"version_info": version, "resources": resources}


def groups(listed: Sequence[Route]) -> dict[str, list[str]]:
    """For each routed cluster the others of its route that take traffic, by name: they stand in for it."""
    return {
        first: sorted(c for c, weight in route.weights.items() if c != first and weight > 0)
        for route in listed
        for first, own in route.weights.items()
        if own > 0
    }


def _cluster(backend: Backend) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _address(backend.port)}}
    return {
        "@type": _TYPE + "config.cluster.v3.Cluster",
        "name": backend.cluster,
        "type": "STATIC",
        "connect_timeout": "0.5s",
        "load_assignment": {"cluster_name": backend.cluster, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "circuit_breakers": {"thresholds": [{"max_connections": 64, "max_pending_requests": 256, "max_retries": 256}]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": _TYPE + "extensions.upstreams.http.v3.HttpProtocolOptions",
                # shorter than the server's keep-alive, so that it is never the server that closes first
                "common_http_protocol_options": {"idle_timeout": "20s"},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
    }


def _share(cluster: str, weight: int, predictor: str | None) -> dict[str, Any]:
    """A weighted cluster whose answers, failed ones too, say which predictor the request was given to."""
    share: dict[str, Any] = {"name": aggregate(cluster), "weight": weight}
    if predictor:
        share["response_headers_to_add"] = [{"header": {"key": PREDICTOR_HEADER, "value": predictor}}]
    return share


def aggregate(cluster: str) -> str:
    """The name of the aggregate that starts with a backend's cluster."""
    return f"{cluster}_first"


def _aggregate(first: str, behind: Sequence[str]) -> dict[str, Any]:
    return {
        "@type": _TYPE + "config.cluster.v3.Cluster",
        "name": aggregate(first),
        "connect_timeout": "0.5s",
        "lb_policy": "CLUSTER_PROVIDED",
        "circuit_breakers": {"thresholds": [{"max_retries": 256}]},
        "cluster_type": {
            "name": "envoy.clusters.aggregate",
            "typed_config": {
                "@type": _TYPE + "extensions.clusters.aggregate.v3.ClusterConfig",
                "clusters": [first, *behind],
            },
        },
    }


def routes(listed: Sequence[Route], version: str) -> dict[str, Any]:
    """The RDS file: by prefix, weighted over the aggregates of ready backends; anything else is a 404."""
    host = {"name": "all", "domains": ["*"], "routes": [_route(r) for r in listed]}
    resource = {"@type": _TYPE + "config.route.v3.RouteConfiguration", "name": ROUTES, "virtual_hosts": [host]}
    return {"version_info": version, "resources": [resource]}


def _route(route: Route) -> dict[str, Any]:
    match = {"path_separated_prefix": route.prefix}
    if not any(route.weights.values()):
        body = {"inline_string": "no predictor is ready"}
        return {"match": match, "direct_response": {"status": 503, "body": body}}
    return {
        "match": match,
        "route": {
            "weighted_clusters": {
                "clusters": [_share(c, w, route.names.get(c)) for c, w in route.weights.items() if w > 0]
            },
            "regex_rewrite": {"pattern": {"regex": f"^{route.prefix}/?"}, "substitution": "/"},
            "timeout": f"{route.timeout_ms / 1000}s",
            **({"request_mirror_policies": [_copies(*route.mirror)]} if route.mirror else {}),
            "retry_policy": {
                "retry_on": "connect-failure,refused-stream,reset",
                "num_retries": 1,
                "retry_priority": {
                    "name": "envoy.retry_priorities.previous_priorities",
                    "typed_config": {
                        "@type": _TYPE + "extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
                        "update_frequency": 1,
                    },
                },
                "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.005s"},
            },
        },
    }


def _copies(cluster: str, percent: int) -> dict[str, Any]:
    # Envoy draws one number a request: out of a hundred it would copy those of the first predictor first, out
    # of a million (as Istio asks) the copies are drawn without regard to who answers
    fraction = {"default_value": {"numerator": percent * 10_000, "denominator": "MILLION"}}
    return {"cluster": cluster, "runtime_fraction": fraction, "disable_shadow_host_suffix_append": True}
