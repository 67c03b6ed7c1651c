"""A rollout's history beside the object: one JSON line a step, for reports and explanations.

The object decides; the journal only tells. A line that a crash tore is left out on reading.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from seaway.artifacts import canonical_json


class Journal:
    """Appends records of kinds ``evidence``, ``weights`` and ``event`` to one JSONL file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._torn = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")

    def add(self, kind: str, records: list[dict[str, Any]]) -> None:
        if not records:
            return
        lines = "".join(canonical_json({"kind": kind, **record}) + "\n" for record in records)
        with self.path.open("a") as stream:
            stream.write(("\n" if self._torn else "") + lines)
        self._torn = False

    def read(self) -> dict[str, list[dict[str, Any]]]:
        """Records by kind, in order."""
        found: dict[str, list[dict[str, Any]]] = {"evidence": [], "weights": [], "event": []}
        if not self.path.exists():
            return found
        for line in self.path.read_text(errors="replace").splitlines():
            try:
                record = json.loads(line)
                found.setdefault(record.pop("kind"), []).append(record)
            except (ValueError, KeyError, AttributeError):
                continue
        return found
