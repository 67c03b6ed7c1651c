"""A bundle with a model for each slice: which rows go to which model, and their scores.

``slices.json`` beside the global model: {"by", "kept": {value: {"folder", "threshold", …}}, "left": {value: reason}}.
A value that is not kept, or was never seen, goes to the global model. Standard library and numpy; a session is
opened for a slice when its first row comes.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from seaway import scorer
from seaway.errors import SeawayError

FILE = "slices.json"
GLOBAL = "global"  # what answers call the model of the rows that have none of their own


def word(value: Any) -> str:
    """A slice's value as the routing table names it: 3, 3.0 and float32(3) are "3"; None is ""."""
    if value is None:
        return ""
    if isinstance(value, (float, np.floating)):  # a feature is a float32, a caller's number is not
        return str(int(value)) if float(value).is_integer() else str(np.float32(value))
    return str(value.item() if isinstance(value, np.generic) else value)


class Slices:
    """The slice models of one bundle. ``read`` gives a file's bytes by its name; ``width``: number of features.

    Raises SeawayError for a routing table that cannot be used.
    """

    def __init__(self, read: Callable[[str], bytes], width: int):
        try:
            record = json.loads(read(FILE))
            self.by = str(record["by"])
            self._folders = {str(value): str(kept["folder"]) for value, kept in record["kept"].items()}
            self.thresholds = {str(value): float(kept["threshold"]) for value, kept in record["kept"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SeawayError(f"{FILE} is not a routing table: {type(error).__name__}: {error}") from None
        self._read, self._width = read, width
        self._sessions: dict[str, Any] = {}
        self._backgrounds: dict[str, tuple[np.ndarray, dict[str, str]]] = {}
        self._lock = threading.Lock()

    def names(self, values: Iterable[Any]) -> list[str]:
        """By row: the slice whose model scores it, "" for the global model."""
        return [w if (w := word(value)) in self._folders else "" for value in values]

    def scores(
        self, names: Sequence[str], features: np.ndarray, other: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """Probabilities float32 (n,) of raw float32 features (n, f), one call a model; ``other``: the global model."""
        out = np.empty(len(features), dtype=np.float32)
        for name, rows in places(names):
            out[rows] = self.score(name, features[rows]) if name else other(features[rows])
        return out

    def over(self, names: Sequence[str], features: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """``scores`` (n,) of the global model, with those of the slices' own rows in their place."""
        out = np.array(scores)
        for name, rows in places(names):
            if name:
                out[rows] = self.score(name, features[rows])
        return out

    def score(self, name: str, features: np.ndarray) -> np.ndarray:
        """Probabilities (n,) by the model of one slice."""
        return scorer.scores(self._session(name), np.ascontiguousarray(features, dtype=np.float32))

    def cuts(self, names: Sequence[str], other: float) -> np.ndarray:
        """The threshold of each row's decision, float64 (n,)."""
        return np.asarray([self.thresholds.get(name, other) for name in names])

    def background(self, name: str) -> tuple[np.ndarray, dict[str, str]]:
        """A slice's own reference rows float32 (b, f), and the words of its features."""
        found = self._backgrounds.get(name)
        if found is None:
            record = json.loads(self._read(f"{self._folders[name]}/model.json"))
            found = np.asarray(record["background"], dtype=np.float32), record["reasons"]
            self._backgrounds[name] = found
        return found

    def check(self) -> None:
        """Open every model once; SeawayError for one that is missing or of another width."""
        for name in self._folders:
            self._session(name)

    def _session(self, name: str) -> Any:
        found = self._sessions.get(name)
        if found is None:
            with self._lock:
                found = self._sessions.get(name) or scorer.session(
                    self._read(f"{self._folders[name]}/model.onnx"), self._width, one_of_many=True
                )
                self._sessions[name] = found
        return found


def places(names: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Each name with the indices of its rows."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    if len(numbers) <= 1:  # as for most requests
        yield from ((name, np.arange(len(names))) for name in numbers)
        return
    codes = np.fromiter((numbers[name] for name in names), dtype=np.int64, count=len(names))
    order = np.argsort(codes, kind="stable")  # once, however many slices there are
    ends = np.cumsum(np.bincount(codes, minlength=len(numbers)))
    yield from zip(numbers, np.split(order, ends[:-1]), strict=True)
