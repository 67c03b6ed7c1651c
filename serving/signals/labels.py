"""Labels as they become known, from a feed that is not trusted: every entry is signed or it does not count.

An entry is a JSON line {"id", "label", "time", "key", "mac"} in ``folder/*.jsonl``: the id of a request (a
row's, ``/<i>`` for row i > 0 of a batch), 0 or 1, when the label became known (seconds since the epoch), the
name of the key, and HMAC-SHA256 over the canonical JSON of the other four. A label that nobody told is not
known; it is never taken for 0. Entries that are unsigned, forged, of another key or damaged are refused and
counted; so is one that contradicts an earlier label of its id (the first by ``time`` stands), and one from
the future until its time has come.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from seaway.artifacts import append_lines
from seaway.config import Config
from seaway.errors import SeawayError
from seaway.keys import create, secret
from serving.signals.firsts import Firsts, Put, key_of
from serving.signals.lines import Tail

FUTURE = 5.0  # seconds that clocks may differ
LEAST_KEY = 16  # bytes
_Entry = tuple[float, int, int]  # time, key of the id, label
_FIELDS = {"id", "label", "time", "key", "mac"}


def key_name(key: bytes) -> str:
    """What an entry calls its key: tells a wrong key from a forgery, and nothing about the key."""
    return hashlib.sha256(b"seaway label key\0" + key).hexdigest()[:12]


def sign(key: bytes, identity: str, label: int, at: float) -> dict[str, Any]:
    """The feed's entry for one label; ``at``: when it became known. SeawayError for what is not a label."""
    if isinstance(label, bool) or label not in (0, 1) or not isinstance(identity, str) or not identity:
        raise SeawayError(f"id {identity!r}: label {label!r} is not 0 or 1, or the id is no text")
    if not math.isfinite(at):
        raise SeawayError(f"id {identity!r}: time {at!r} is not a number of seconds since the epoch")
    entry = {"id": identity, "label": int(label), "time": float(at), "key": key_name(key)}
    return {**entry, "mac": _mac(key, entry)}


def _mac(key: bytes, entry: dict[str, Any]) -> str:
    # the canonical JSON of these four, in the order of their names; ASCII, the time as it was written
    text = f'{{"id":{json.dumps(entry["id"])},"key":{json.dumps(entry["key"])},"label":{entry["label"]},'
    return hmac.digest(key, f'{text}"time":{entry["time"]!r}}}'.encode(), "sha256").hex()


def tell(folder: Path, key: bytes, labels: Iterable[tuple[str, int, float]], source: str = "labels") -> int:
    """Append signed entries (id, label, time) to ``folder/<source>.jsonl``, durably; returns how many."""
    lines = [json.dumps(sign(key, *label)) for label in labels]
    if lines:
        append_lines(Path(folder) / f"{source}.jsonl", lines)
    return len(lines)


def feed_of(config: Config) -> tuple[Path, Path]:
    """(folder of the feed, file of its key), as configured."""
    labels = config.release.labels
    folder = Path(labels.feed) if labels and labels.feed else config.home / "labels"
    return folder, Path(labels.key_file) if labels and labels.key_file else config.home / "keys" / "labels.key"


def read_key(path: Path, *, make: bool = False) -> bytes:
    """The key in a file; ``make``: a new random one (0600) when there is none. SeawayError when it is unusable."""
    path = Path(path)
    if make and not path.exists():
        create(path, secrets.token_hex(32).encode() + b"\n", 0o600)
    key = secret(path, "key of the label feed", "release.labels.key_file").strip()
    if len(key) < LEAST_KEY:
        raise SeawayError(f"the key of the label feed in {path} has {len(key)} bytes: give it at least {LEAST_KEY}")
    return key


class LabelFeed:
    """The labels told so far. ``known`` has them by id; ``refused`` counts what was not believed, by reason."""

    def __init__(self, folder: Path, key: bytes, clock: Callable[[], float] = time.time):
        self.folder, self.known = Path(folder), Firsts()
        self.refused: Counter[str] = Counter()
        self.first: dict[str, str] = {}  # reason -> where it was first seen
        self._key, self._name, self._clock = key, key_name(key), clock
        self._tail = Tail(folder)
        self._waiting: list[_Entry] = []  # of the future

    def read(self) -> Put:
        """Take in what is new; the keys that got a label. OSError when a file cannot be read."""
        puts = list(self.blocks())
        return Put(np.concatenate([put.new for put in puts]), replaced=any(put.replaced for put in puts))

    def blocks(self) -> Iterator[Put]:
        """The same block by block, for feeds of any size."""
        latest = self._clock() + FUTURE
        now, self._waiting = self._due(self._waiting, latest)
        yield self._put(now)
        for path, lines in self._tail.read():
            believed = []
            for line in lines:
                entry, reason = self._believed(line)
                if entry is not None:
                    believed.append(entry)
                else:
                    self._refuse(reason, path.name)
            now, later = self._due(believed, latest)
            self._waiting += later
            if later:
                self.first.setdefault("future", path.name)
            yield self._put(now)
        self.refused["future"] = len(self._waiting)

    @staticmethod
    def _due(entries: list[_Entry], latest: float) -> tuple[list[_Entry], list[_Entry]]:
        return [e for e in entries if e[0] <= latest], [e for e in entries if e[0] > latest]

    def _put(self, entries: list[_Entry]) -> Put:
        times, keys, labels = zip(*entries, strict=True) if entries else ((), (), ())
        put = self.known.put(keys, times, labels, labels)
        if put.differing:
            self._refuse("conflicting", str(self.folder), put.differing)
        return put

    def _refuse(self, reason: str, where: str, count: int = 1) -> None:
        self.refused[reason] += count
        self.first.setdefault(reason, where)

    def _believed(self, line: bytes) -> tuple[_Entry | None, str]:
        """What an entry says that holds, or why it does not."""
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            return None, "damaged"
        if not isinstance(entry, dict) or not _FIELDS - {"mac", "key"} <= set(entry) <= _FIELDS:
            return None, "damaged"
        if not isinstance(entry.get("mac"), str) or not isinstance(entry.get("key"), str):
            return None, "unsigned"
        at, label, identity = entry["time"], entry["label"], entry["id"]
        if type(at) not in (int, float) or not abs(at) < 1e12:  # also NaN
            return None, "damaged"
        if type(label) is not int or label not in (0, 1) or not isinstance(identity, str):
            return None, "damaged"
        if entry["key"] != self._name:
            return None, "of another key"
        if not hmac.compare_digest(_mac(self._key, entry).encode(), entry["mac"].encode(errors="replace")):
            return None, "forged"
        return (float(at), key_of(identity), label), ""

    @property
    def problem(self) -> str:
        """What was refused, for people; "" when nothing was."""
        said = [f"{n} {reason} (first in {self.first[reason]})" for reason, n in sorted(self.refused.items()) if n]
        return f"label entries refused: {', '.join(said)}" if said else ""
