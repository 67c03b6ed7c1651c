"""What a place to run a release must offer; the release loop knows nothing else of it.

The released object is a SeldonDeployment (a plain dict). It is the only state: whoever writes it names
the version that was read (``metadata.resourceVersion``), so of two writers one gets a Conflict.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import Any, Protocol

from seaway.errors import Conflict as Conflict
from seaway.errors import NotFound as NotFound
from seaway.errors import SeawayError

CREATING, AVAILABLE, FAILED = "Creating", "Available", "Failed"  # Seldon's own words for status.state
PREDICTOR_HEADER = "x-seaway-predictor"  # of every answer: the predictor that the request was given to
LATENCY_EDGES_MS = (5, 10, 25, 50, 100, 250, 500, 1000)  # a latency objective must be one of these


@dataclass(frozen=True)
class Status:
    """What really runs, as against what the object asks for."""

    ready: dict[str, bool]  # by predictor of the object
    weights: dict[str, int]  # as the proxy routes now, in percent; empty before the first route
    url: str | None  # base address: POST {url}/api/v1.0/predictions
    state: str = CREATING
    message: str = ""  # why something is not ready, with a server's last log lines
    generation: int = 0  # of the object that the weights and predictors follow
    restarts: dict[str, int] = field(default_factory=dict)  # crashes by predictor


@dataclass(frozen=True)
class Counters:
    """Cumulative counts of one source: one process, pod or gateway that counts for one predictor.

    ``requests`` all that the proxy gave the predictor, each once; ``errors`` those of them that it failed:
    a 5xx, a lost or refused connection, a timeout, also when another predictor then answered the caller.
    ``slow`` by edge: requests that took longer than that many milliseconds. ``answered`` rows scored
    and ``decisions`` rows decided positive, by the predictor's own count. None: this source does not
    count that. A new source starts at zero; a source that restarts under its name does too.
    """

    requests: int | None = 0
    errors: int | None = 0
    slow: dict[int, int] | None = field(default_factory=dict)
    decisions: int | None = 0
    answered: int | None = 0
    at: float | None = None  # when the counts were taken, seconds since the epoch; None: now


class Substrate(Protocol):
    """Where released objects live and run. Every method may raise SeawayError."""

    @property
    def metrics_url(self) -> str:
        """One Prometheus page with the proxy's and every predictor's metrics."""

    def create(self, obj: dict[str, Any]) -> dict[str, Any]:
        """Store a new object and return it with uid, generation and resourceVersion; Conflict if it exists."""

    def read(self, name: str) -> dict[str, Any]:
        """The object as last written; NotFound when there is none."""

    def write(self, obj: dict[str, Any]) -> dict[str, Any]:
        """Replace the object if its resourceVersion is still the read one, else Conflict; returns the new one."""

    def delete(self, name: str) -> None:
        """Remove the object; its predictors drain and stop. Nothing happens when there is none."""

    def status(self, name: str) -> Status:
        """What runs now; NotFound when there is no such object."""

    def wait_ready(self, name: str, timeout: float = 60.0) -> Status:
        """Wait until all predictors are ready and the weights are as written; SeawayError says what is not."""

    def counters(self, name: str) -> dict[str, dict[str, Counters]]:
        """By predictor of the object that callers get answers from (no shadow), and by source."""

    def names(self) -> list[str]:
        """The objects that carry a rollout's state (annotation seaway.dev/rollout), sorted."""

    def event(self, name: str, reason: str, text: str, warning: bool = False) -> None:
        """Say what happened to an object where people look for it. ``reason``: one word in CamelCase.

        Never raises: an event that cannot be stored is lost.
        """


def wait_ready(substrate: Substrate, name: str, timeout: float, poll: float) -> Status:
    """``Substrate.wait_ready`` by asking for the status every ``poll`` seconds; its message says what is waited for."""
    deadline = monotonic() + timeout
    wanted = substrate.read(name)["metadata"]["generation"]
    while True:
        status = substrate.status(name)
        if status.state == AVAILABLE and status.generation >= wanted:
            return status
        if status.state == FAILED:
            raise SeawayError(f"{name!r} cannot be served: {status.message}")
        if monotonic() > deadline:
            raise SeawayError(f"{name!r} is not ready after {timeout:.0f} s: {status.message}")
        sleep(poll)
