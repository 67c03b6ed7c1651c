"""Labels of replayed events, told to the label feed some time after each was scored, as the world would.

A held-out event's label is in the data set. Here it becomes known ``after`` seconds from the moment that a
model answered for it, by the prediction logs, and is told signed like any other label.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from seaway.config import Config
from serving.signals.firsts import key_of
from serving.signals.labels import LabelFeed, tell
from serving.signals.lines import Tail

SOURCE = "replay"  # the feed's file


def labels_of(config: Config, rows: Path) -> dict[str, int]:
    """Label by request id of a replay's rows; an event without a label is not among them."""
    import polars as pl

    source, label = config.workload.sources[config.workload.source], config.workload.label.column
    table = pl.read_parquet(rows, columns=[c for c in (source.id, label, "event_timestamp") if c])
    table = table.sort("event_timestamp")
    ids = table[source.id].to_list() if source.id else range(table.height)  # as serving.traffic_process numbers them
    return {str(i): int(y) for i, y in zip(ids, table[label].to_list(), strict=True) if y is not None}


class DelayedLabels:
    """Tells the labels of answered requests. ``step`` by hand, or a thread of its own as a context.

    ``answers``: the deployment's folder of prediction logs; ``labels``: by request id; ``feed`` and ``key``:
    where and with what to tell; ``after``: seconds. What the feed knows already is not told again.
    """

    def __init__(
        self,
        answers: Path,
        labels: Mapping[str, int],
        feed: Path,
        key: bytes,
        *,
        after: float,
        clock: Callable[[], float] = time.time,
    ):
        self.labels, self.feed, self.after = labels, Path(feed), after
        self._key, self._clock = key, clock
        self._tail, self._known = Tail(answers), LabelFeed(feed, key, clock=lambda: float("inf"))
        self._due: dict[str, float] = {}  # when the label of an answered request becomes known
        self._told: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="delayed-labels", daemon=True)

    def step(self) -> int:
        """Tell what has become known by now; returns how many labels."""
        for _, lines in self._tail.read():
            for line in lines:
                try:
                    record = json.loads(line)
                    identity, at = str(record["id"]), float(record["t"]) + self.after
                except (ValueError, KeyError, TypeError):  # half a line of a server that was killed
                    continue
                if identity in self.labels and identity not in self._told:
                    self._due[identity] = min(at, self._due.get(identity, at))
        now = self._clock()
        known = [identity for identity, at in self._due.items() if at <= now]
        self._known.read()
        found = self._known.known.find(np.array([key_of(identity) for identity in known], np.uint64))
        fresh = [identity for identity, place in zip(known, found, strict=True) if place < 0]
        told = tell(self.feed, self._key, [(i, self.labels[i], self._due[i]) for i in fresh], SOURCE)
        for identity in known:
            del self._due[identity]
        self._told.update(known)
        return told

    def __enter__(self) -> DelayedLabels:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.2):
            with contextlib.suppress(OSError):  # a full disk: they are told later
                self.step()
