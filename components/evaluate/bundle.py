"""A bundle as the evaluation asks it: its scores on a frame, and which model and baseline explain a row."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from components.evaluate.explain import Explainer
from components.evaluate.measure import Model
from components.train.export import onnx_scores, session
from seaway.errors import SeawayError
from seaway.features import FeatureSpec
from seaway.slices import FILE, Slices


@dataclass(frozen=True)
class Scored:
    """``model``: the scores of a bundle, each row by the model that a server asks; ``alone``: by the global one.

    ``own``: the slice of each row, "" for the global model; ``features`` float32 (n, f), in the bundle's order.
    """

    model: Model
    alone: np.ndarray
    own: list[str]
    features: np.ndarray


class Bundle:
    """A trained bundle in a folder. Raises SeawayError for one that is not, or whose routing table is broken."""

    def __init__(self, folder: Path, read: Callable[[str], bytes] | None = None) -> None:
        """``read`` gives a file's bytes by its name, such as those that were signed; else the folder's are taken."""
        if not (folder / "model.json").exists():
            raise SeawayError(f"{folder} is not a model bundle: it has no model.json")
        self._folder, self._read = folder, read or self._file
        self.record = json.loads(self._read("model.json"))
        self.names = FeatureSpec.from_record(self.record["features"]).names
        self.slices = Slices(self._read, len(self.names)) if (folder / FILE).exists() else None
        self._session: Any = None

    def lacks(self, frame: pl.DataFrame) -> str:
        """What of ``frame`` is missing to score by this bundle, in words; ""."""
        said = []
        if absent := [name for name in self.names if name not in frame.columns]:
            said.append(f"its features {', '.join(absent)}")
        if self.slices and self.slices.by not in frame.columns:
            said.append(f"the column {self.slices.by!r}, by which it routes rows to slices")
        return " and ".join(said)

    def scored(self, frame: pl.DataFrame) -> Scored:
        """The frame's rows, scored as a server would. SeawayError for rows that the bundle cannot score."""
        if lacks := self.lacks(frame):
            raise SeawayError(f"the data set cannot be scored by {self._folder}: it lacks {lacks}")
        features = np.ascontiguousarray(frame.select(self.names).cast(pl.Float32).to_numpy())
        alone = scores = self.score(features)
        own, threshold = [""] * frame.height, self.record["threshold"]
        if self.slices:
            own = self.slices.names(frame[self.slices.by].to_list())
            scores, threshold = self.slices.over(own, features, alone), self.slices.cuts(own, threshold)
        if not np.isfinite(scores).all():
            raise SeawayError(f"{self._folder}: {int((~np.isfinite(scores)).sum())} scores are not finite numbers")
        return Scored(Model(scores, threshold), alone, own, features)

    def score(self, features: np.ndarray) -> np.ndarray:
        """Probabilities float32 (n,) by the global model."""
        self._session = self._session or session(self._read("model.onnx"))
        return onnx_scores(self._session, features)

    def explainer(self, name: str) -> Explainer:
        """What explains a row of the slice ``name``, "" for the global model: its own model and reference rows."""
        if name and self.slices:
            background, _ = self.slices.background(name)
            return Explainer(lambda rows: self.slices.score(name, rows), background)
        return Explainer(self.score, np.asarray(self.record["background"], dtype=np.float32))

    def routing(self) -> dict[str, Any] | None:
        """The routing table as training wrote it; None for a bundle without slices."""
        return json.loads(self._read(FILE)) if self.slices else None

    def _file(self, name: str) -> bytes:
        try:
            return (self._folder / name).read_bytes()
        except OSError as error:
            raise SeawayError(f"{self._folder / name} cannot be read: {error.strerror}") from None
