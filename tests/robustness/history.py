"""What happened in one simulated release, event by event: the only thing that the checkers look at.

An event is a plain record: ``i`` its place, ``t`` the world's own time, ``actor`` who did it, ``kind``:

    stored   obj, before (the object it replaced or None), carried ([resourceVersion, uid] of the write, or None),
             served (requests that each bundle really got so far)
    deleted  before
    seen     what, value       an answer that the actor got: read, clock, counters, status, pairs, artifact
    failed   what, error       a call that ended without an answer
    logged   line, path        a decision log append that returned, or was complete before the actor died
    ledger   line, path        the same of the ledger
    served   value             requests that each bundle really got so far, once a period
    said     text              what a person could read
    decided  action, phase, weights, reason     what a step returned
    fault    what, where       an injected fault
    killed, began              the end and the start of a controller
    raised   error             an exception that a controller must not raise
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class History:
    def __init__(self, seed: int, scenario: dict[str, Any], events: list[dict[str, Any]] | None = None) -> None:
        self.seed, self.scenario = seed, scenario
        self.events: list[dict[str, Any]] = events or []
        self.known: list[Any] | None = None  # its commits, once somebody asked for them
        self.end: dict[str, Any] = {}  # files as they were at the end: ledger and decision logs by release

    def add(self, kind: str, t: float, actor: str, **more: Any) -> None:
        self.events.append({"i": len(self.events), "t": t, "actor": actor, "kind": kind, **more})

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["kind"] in kinds]

    def save(self, path: Path, violations: list[str]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        record = {
            "replay": f"python -m tests.robustness --count 1 --seed {self.seed}",
            "recheck": f"python -m tests.robustness --recheck {path}",
            "violations": violations,
            "seed": self.seed,
            "scenario": self.scenario,
            "end": self.end,
            "events": self.events,
        }
        path.write_text(json.dumps(record, indent=1, default=_plain) + "\n")

    @classmethod
    def load(cls, path: Path) -> History:
        record = json.loads(path.read_text())
        history = cls(record["seed"], record["scenario"], record["events"])
        history.end = record["end"]
        return history


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)
