"""Counters of a release in a cluster, from Prometheus: raw cumulative samples with their own times.

Two places are asked. The ingress gateway's pods count what callers got, by destination service
(``istio_requests_total`` and ``istio_request_duration_milliseconds``, reporter="source"); the model's pods
count rows (``seaway_rows_answered_total``, ``seaway_rows_decided_total``). Every scraped series must carry
the labels ``pod`` and ``namespace``. The queries are range selectors: Prometheus computes nothing, so no
``rate()`` guesses at missed scrapes, and one source's counts are all taken from one and the same scrape.

What cannot be trusted is never turned into a number: SeawayError names it, and the release is held.
"""

from __future__ import annotations

import json
import math
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from typing import Any

from seaway.errors import SeawayError
from serving.substrate.base import LATENCY_EDGES_MS, Counters

REQUESTS, DURATIONS = "istio_requests_total", "istio_request_duration_milliseconds_bucket"
ANSWERED, DECIDED = "seaway_rows_answered_total", "seaway_rows_decided_total"
WINDOW = 180  # seconds; older samples are not asked for, and what is stale among these tells it by its time
SECONDS, LIMIT = 10.0, 16 * 2**20  # of one answer: time, bytes
GATEWAY = "istio-ingressgateway"  # the workload that callers come through
# Istio's own labels: what tells one of its series from another. Two series that differ in none of them are one
# counter that was scraped twice, and adding them would count every request twice.
_ISTIO = re.findall(
    r"\w+",
    "connection_security_policy destination_app destination_canonical_revision destination_canonical_service "
    "destination_cluster destination_principal destination_service destination_service_name "
    "destination_service_namespace destination_version destination_workload destination_workload_namespace "
    "grpc_response_status reporter request_protocol response_code response_flags source_app "
    "source_canonical_revision source_canonical_service source_cluster source_principal source_version "
    "source_workload source_workload_namespace le",
)
# what Envoy says of an answer that the service behind it did not give, or not in time
_FAILED = frozenset(re.findall(r"\w+", "UF UH UO UT UR UC UPE URX UMSDR UDO NC LH LR SI DT DC DI FI OM DF"))

Series = Mapping[str, Any]  # {"metric": {label: text}, "values": [[seconds, text], ...]}


class Prometheus:
    """One server. ``url``: its base address; ``gateway``: workload name of the ingress gateway; ``window``: seconds."""

    def __init__(self, url: str, *, gateway: str = GATEWAY, window: int = WINDOW, seconds: float = SECONDS):
        if not re.match(r"https?://", url):
            raise SeawayError(f"serving.prometheus is {url!r}: give the base address, such as http://prometheus:9090")
        if "@" in urllib.parse.urlsplit(url).netloc:  # it stands in messages, events and logs
            raise SeawayError("serving.prometheus carries a user or password: give an address that needs none")
        self.url, self.gateway, self.window, self.seconds = url.rstrip("/"), gateway, window, seconds

    def counters(
        self, namespace: str, services: Mapping[str, str], pods: Mapping[str, str]
    ) -> dict[str, dict[str, Counters]]:
        """Predictor -> source -> Counters. ``services``: predictor -> service; ``pods``: pod -> predictor."""
        through = {
            "reporter": "source",
            "source_workload": self.gateway,
            "destination_service_namespace": namespace,
        }
        behind = {"destination_service_name": services.values()}
        edges = {"le": le_texts()}
        requests = self._ask(REQUESTS, through, behind)
        durations = self._ask(DURATIONS, through, behind | edges)
        rows = {ANSWERED: [], DECIDED: []}
        if pods:
            rows = {name: self._ask(name, {"namespace": namespace}, {"pod": pods}) for name in rows}
        found: dict[str, dict[str, Counters]] = {predictor: {} for predictor in services}
        for predictor, service in services.items():
            found[predictor] |= from_gateways(
                [s for s in requests if s["metric"].get("destination_service_name") == service],
                [s for s in durations if s["metric"].get("destination_service_name") == service],
            )
        for pod, counted in from_pods(rows[ANSWERED], rows[DECIDED]).items():
            found[pods[pod]][f"pod/{pod}"] = counted
        return found

    def _ask(self, metric: str, equal: Mapping[str, str], one_of: Mapping[str, Iterable[str]]) -> list[Series]:
        query = selector(metric, equal, one_of, self.window)
        form = urllib.parse.urlencode({"query": query, "timeout": f"{self.seconds:g}s"}).encode()
        local = urllib.parse.urlsplit(self.url).hostname in ("127.0.0.1", "::1", "localhost")
        opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if local else []))
        try:
            with opener.open(f"{self.url}/api/v1/query", form, timeout=self.seconds) as answer:
                body = answer.read(LIMIT + 1)
        except urllib.error.HTTPError as error:
            said = error.read(300).decode(errors="replace")
            raise SeawayError(f"Prometheus at {self.url} answered {error.code}: {said}") from None
        except (OSError, ValueError) as error:
            raise SeawayError(f"Prometheus at {self.url} does not answer: {error}") from None
        if len(body) > LIMIT:
            raise SeawayError(f"Prometheus at {self.url} answered with more than {LIMIT} bytes to {query}")
        return parse(body, query)


def le_texts() -> list[str]:
    """The edges as servers write them: 5, 5.0; and the last bucket, which counts all."""
    return [*(text for edge in LATENCY_EDGES_MS for text in (str(edge), f"{edge:.1f}")), "+Inf"]


def selector(metric: str, equal: Mapping[str, str], one_of: Mapping[str, Iterable[str]], window: int = WINDOW) -> str:
    """``metric{a="b",c=~"d|e"}[180s]`` with every value escaped."""
    matchers = [f"{label}={_quoted(value)}" for label, value in equal.items()]
    for label, values in one_of.items():
        pattern = "|".join(re.sub(r"([^A-Za-z0-9_-])", r"\\\1", value) for value in values)
        matchers.append(f"{label}=~{_quoted(pattern)}")
    return f"{metric}{{{','.join(matchers)}}}[{window}s]"


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def parse(body: bytes, query: str) -> list[Series]:
    """The series of an answer; SeawayError for a failed, partial or odd one."""
    try:
        answer = json.loads(body)
        if answer["status"] != "success":
            raise SeawayError(f"Prometheus failed: {answer.get('error', 'no reason was given')} ({query})")
        if answer.get("warnings"):
            raise SeawayError(f"Prometheus gave an answer with warnings, which may lack some: {answer['warnings']}")
        if answer["data"]["resultType"] != "matrix":
            raise SeawayError(f"Prometheus answered {query} with a {answer['data']['resultType']}, not raw samples")
        for series in answer["data"]["result"]:
            if not isinstance(series["metric"], dict) or not isinstance(series["values"], list):
                raise TypeError(f"not a series of samples: {series!r}"[:200])
        return answer["data"]["result"]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SeawayError(f"Prometheus gave an answer that is not one ({type(error).__name__}: {error})") from None


def from_gateways(requests: list[Series], durations: list[Series]) -> dict[str, Counters]:
    """Counters by ``gateway/POD`` of one service, each from the newest scrape that has both metrics.

    A request failed when the caller got a 5xx, or no answer at all (code 0), or when Envoy says that the
    service failed; a refused caller (4xx, rate limit, authorisation) is no failure of the service.
    An error series that is not there is 0, because the total is there: both are the same metric.
    """
    asked, timed = by_source(requests), by_source(durations)
    found = {}
    for pod, listed in asked.items():
        counts, buckets = table(listed, pod), table(timed.get(pod, []), pod)
        times = {t for column in counts.values() for t in column}
        both = times & {t for column in buckets.values() for t in column}
        if not both:
            raise SeawayError(f"gateway {pod}: no scrape has both {REQUESTS} and {DURATIONS}")
        at = max(both)
        total = errors = 0
        for labels, column in counts.items():
            value, named = column.get(at, 0), dict(labels)
            total += value
            errors += value if _is_error(named) else 0
        found[f"gateway/{pod}"] = Counters(
            requests=total, errors=errors, slow=_slow(buckets, at, pod), decisions=None, answered=None, at=at
        )
    return found


def from_pods(answered: list[Series], decided: list[Series]) -> dict[str, Counters]:
    """Counters of rows by pod, each from the newest scrape that has both metrics."""
    scored, positive = by_source(answered), by_source(decided)
    found = {}
    for pod, listed in scored.items():
        rows, decisions = table(listed, pod, ()), table(positive.get(pod, []), pod, ())
        both = set(rows.get((), {})) & set(decisions.get((), {}))
        if not both:
            raise SeawayError(f"pod {pod}: no scrape has both {ANSWERED} and {DECIDED}")
        at = max(both)
        found[pod] = Counters(
            requests=None, errors=None, slow=None, decisions=decisions[()][at], answered=rows[()][at], at=at
        )
    return found


def by_source(listed: Iterable[Series]) -> dict[str, list[Series]]:
    """The series by the pod that counts."""
    found: dict[str, list[Series]] = {}
    for series in listed:
        pod = series["metric"].get("pod")
        if not pod:
            raise SeawayError(
                f"a series of {series['metric'].get('__name__')} has no label `pod`: "
                "have the scrape configuration set `pod` and `namespace`"
            )
        found.setdefault(pod, []).append(series)
    return found


def table(
    listed: Iterable[Series], pod: str, known: Iterable[str] = _ISTIO
) -> dict[tuple[tuple[str, str], ...], dict[float, int]]:
    """One pod's counts: labels among ``known`` -> time -> count. SeawayError for a duplicate or no count."""
    found: dict[tuple[tuple[str, str], ...], dict[float, int]] = {}
    for series in listed:
        metric = series["metric"]
        labels = tuple((label, metric[label]) for label in known if label in metric)
        if labels in found:
            raise SeawayError(
                f"{pod} has {metric.get('__name__')} more than once with the same labels: it is scraped twice, "
                "or replicas of Prometheus are not merged"
            )
        found[labels] = {_time(t): _count(v, metric, pod) for t, v in series["values"]}
    return found


def _is_error(labels: Mapping[str, str]) -> bool:
    code, flags = labels.get("response_code", ""), labels.get("response_flags", "-")
    return code == "0" or code.startswith("5") or not _FAILED.isdisjoint(flags.split(","))


def _slow(buckets: Mapping[Any, Mapping[float, int]], at: float, pod: str) -> dict[int, int]:
    """Requests that took longer, by edge; an edge that the gateway does not have is left out."""
    sums: dict[float, int] = {}
    for labels, column in buckets.items():
        edge = _number(dict(labels).get("le", ""))
        sums[edge] = sums.get(edge, 0) + column.get(at, 0)
    if math.inf not in sums or sorted(sums.values()) != [sums[edge] for edge in sorted(sums)]:
        raise SeawayError(f"gateway {pod}: the buckets of {DURATIONS} do not rise to a +Inf: {sums}")
    return {edge: sums[math.inf] - sums[edge] for edge in LATENCY_EDGES_MS if edge in sums}


def _number(text: Any) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan


def _time(value: Any) -> float:
    if isinstance(value, bool) or not math.isfinite(_number(value)):
        raise SeawayError(f"Prometheus gave a sample at the time {value!r}")
    return float(value)


def _count(text: Any, metric: Mapping[str, str], pod: str) -> int:
    value = _number(text)
    if not math.isfinite(value) or value < 0 or value != int(value):
        raise SeawayError(f"{metric.get('__name__')} of {pod} is {text!r}, which is not a count")
    return int(value)
