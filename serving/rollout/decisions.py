"""The decision log: what was seen and decided, written before it is done, so that it can be replayed.

One JSON line an entry, appended and fsynced before the object is written:

    {"head", "previous", "seq", "release", "at", "observation", "action", "weights", "phase", "reason"}

``head`` is the SHA-256 of the entry without it, ``previous`` the head of the decision before. Entry 0 has the
first state and the rules instead; a later entry has ``rules`` when they changed. The object's state names the
head that its write committed: entries of attempts that were killed, or lost to another writer, are simply not
on the chain that ends there. A line that a crash tore is on no chain either.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from seaway.artifacts import append_lines, canonical_json, record_hash
from seaway.errors import SeawayError
from serving.rollout.rules import Decision, Observation, Rules
from serving.rollout.state import State

START = "0" * 64
NAME = "decisions.jsonl"


class DecisionLog:
    """The log of one release at ``path``. Any number of writers may append at once."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def append(self, state: State, seen: Observation, decision: Decision, rules: Rules) -> State:
        """Store the decision that ``state`` and ``seen`` led to; the state to write into the object, with its head."""
        entries = [] if state.head else [_first(state, rules)]
        changed = bool(state.rules) and state.rules != rules.digest
        entry = {
            "previous": entries[0]["head"] if entries else state.head,
            "seq": state.seq + 1,
            "release": state.release,
            "at": decision.state.now,
            "observation": seen.record(),
            "action": decision.action,
            "weights": decision.weights,
            "phase": decision.state.phase,
            "reason": decision.reason,
            **({"rules": rules.record()} if changed else {}),
        }
        entries.append(_sealed(entry))
        append_lines(self.path, map(canonical_json, entries))
        return replace(decision.state, head=entries[-1]["head"], seq=entries[-1]["seq"])

    def read(self) -> dict[str, dict[str, Any]]:
        """All entries that can be read, by head, on a chain or not, unchecked."""
        found = {}
        for line in self.path.read_bytes().split(b"\n") if self.path.exists() else []:
            try:
                entry = json.loads(line)
                found[str(entry["head"])] = entry
            except (ValueError, KeyError, TypeError):
                continue  # torn by a crash; if it was damaged later, the chain misses it
        return found

    def chain(self, head: str) -> list[dict[str, Any]]:
        """The entries from 0 to the one with this head. SeawayError names an entry that is missing or changed."""
        entries, found = self.read(), []
        while True:
            entry = entries.get(head)
            if entry is None:
                after = f"before entry {found[-1]['seq']} " if found else ""
                raise SeawayError(f"{self.path}: the entry {after}with hash {head[:12]} is missing: restore the file")
            check_entry(entry, str(self.path))
            found.append(entry)
            if entry["seq"] == 0:
                return found[::-1]
            head = entry["previous"]


def check_entry(entry: Mapping[str, Any], where: str = "decision log") -> None:
    """SeawayError when an entry was changed since it was written."""
    if record_hash({k: v for k, v in entry.items() if k != "head"}) != entry["head"]:
        raise SeawayError(f"{where}: entry {entry.get('seq')} was changed: its hash does not fit. Restore the file")


def _first(state: State, rules: Rules) -> dict[str, Any]:
    record = {"previous": START, "seq": 0, "release": state.release, "at": state.started}
    return _sealed({**record, "state": state.record(), "rules": rules.record()})


def _sealed(entry: Mapping[str, Any]) -> dict[str, Any]:
    plain = json.loads(canonical_json(entry))  # as it will be read back: the hashes then agree
    return {**plain, "head": record_hash(plain)}
