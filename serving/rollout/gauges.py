"""What the controller shows Prometheus: that it goes round, and of each release the weights and the evidence."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from serving.rollout.rules import Rules
from serving.rollout.state import UNDER_WAY, State
from serving.rollout.status import status_of


class Gauges:
    """Collects for a Prometheus registry; `note` and `failed` are called by the controller's loop.

    Evidence and thresholds are natural logarithms of E. A release that is gone, or decided, has no series of these.
    """

    def __init__(self) -> None:
        self._seen: dict[str, dict[str, Any]] = {}
        self.steps = self.failures = 0
        self.at = time.time()

    def note(self, name: str, obj: Mapping[str, Any], state: State, rules: Rules) -> None:
        """A step on the released object ``name`` was taken."""
        self._seen = {**self._seen, name: status_of(obj, state, rules)}  # a new one: a page may be under way

    def round(self, names: list[str]) -> None:
        """The loop has come round and found these objects."""
        self.steps, self.at = self.steps + 1, time.time()
        self._seen = {name: seen for name, seen in self._seen.items() if name in names}

    def failed(self) -> None:
        self.failures += 1

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        yield CounterMetricFamily("seaway_controller_steps", "Rounds of the controller", value=self.steps)
        yield CounterMetricFamily("seaway_controller_failures", "What it could not do", value=self.failures)
        yield GaugeMetricFamily("seaway_controller_seen_timestamp_seconds", "Its last round", value=self.at)
        phase = GaugeMetricFamily("seaway_release_phase", "1 for a release's phase", labels=["release", "phase"])
        left = GaugeMetricFamily("seaway_release_left_seconds", "Until its cap", labels=["release"])
        weight = GaugeMetricFamily("seaway_release_weight", "Percent of requests", labels=["release", "predictor"])
        log_e = GaugeMetricFamily("seaway_release_log_e", "Evidence", labels=["release", "guardrail", "direction"])
        limit = GaugeMetricFamily("seaway_release_log_e_threshold", "What it needs", labels=["release", "direction"])
        for name, seen in sorted(self._seen.items()):
            phase.add_metric([name, seen["phase"]], 1)
            for predictor, percent in seen["weights"].items():
                weight.add_metric([name, predictor], percent)
            if seen["phase"] not in UNDER_WAY:
                continue
            left.add_metric([name], seen["left_s"])
            for direction in ("promote", "rollback"):
                limit.add_metric([name, direction], seen["thresholds"][f"log_e_{direction}"])
                for row in seen["evidence"]:
                    log_e.add_metric([name, row["guardrail"], direction], row[f"log_e_{direction}"])
        yield from (phase, left, weight, log_e, limit)


def serve(gauges: Gauges, port: int) -> None:
    """A page at ``port`` of all addresses, in a thread of its own; OSError when the port is taken."""
    from prometheus_client import start_http_server
    from prometheus_client.core import CollectorRegistry

    registry = CollectorRegistry()
    registry.register(gauges)
    start_http_server(port, registry=registry)
