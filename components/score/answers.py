"""What a server would answer to many rows: scores, decisions and reasons, each by the model of the row's slice."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from components.score.model import Model
from seaway import scorer
from seaway.errors import SeawayError
from seaway.slices import Slices, places

if TYPE_CHECKING:
    import polars as pl

REASONS = 3
SLICE = "slice"  # the column that says whose model has scored a row


class Answers:
    """Asks one version. ``own``, of its methods, is the slice of each row, or "" for the global model; of a version
    without slices it is empty."""

    def __init__(self, model: Model) -> None:
        self.model, self.spec = model, model.spec
        self._session = scorer.session(model.onnx, len(self.spec.names))
        self._slices = Slices(model.files.__getitem__, len(self.spec.names)) if model.files else None

    def routes(self, frame: pl.DataFrame, features: np.ndarray) -> list[str]:
        """The slice of each row, by a feature where the column is one, as servers do."""
        if not self._slices:
            return []
        by = self._slices.by
        values = features[:, self.spec.names.index(by)].tolist() if by in self.spec.names else frame[by].to_list()
        distinct = list(dict.fromkeys(values))
        found = dict(zip(distinct, self._slices.names(distinct), strict=True))
        return [found.get(value, "") for value in values]

    def scores(self, features: np.ndarray, own: list[str], batch: int) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities float32 (n,), NaN where a feature is no finite number, and whether each row was scored (n,).

        Raises SeawayError for an output that is not one finite number a row.
        """
        sound = np.isfinite(features).all(axis=1)
        probability = np.full(len(features), np.nan, dtype=np.float32)
        if own:
            groups = [(name, at[sound[at]]) for name, at in places(own)]
        else:
            groups = [("", slice(None) if sound.all() else np.flatnonzero(sound))]
        for name, at in groups:
            probability[at] = self._by(name, features[at], batch)
        return probability, sound

    def _by(self, name: str, rows: np.ndarray, batch: int) -> np.ndarray:
        found = [self._one(name, rows[i : i + batch]) for i in range(0, len(rows), batch)]
        made = np.concatenate(found) if found else np.zeros(0, dtype=np.float32)
        if made.shape != (len(rows),) or not np.isfinite(made).all():
            raise SeawayError("the model's output is not one finite number a row")
        return made

    def _one(self, name: str, rows: np.ndarray) -> np.ndarray:
        return self._slices.score(name, rows) if name and self._slices else scorer.scores(self._session, rows)

    def decisions(self, probability: np.ndarray, own: list[str]) -> np.ndarray:
        """int8 (n,): by the threshold of the model that has scored a row."""
        cuts = self._slices.cuts(own, self.model.threshold) if self._slices else self.model.threshold
        return (probability >= cuts).astype(np.int8)

    def reasons(self, features: np.ndarray, asked: np.ndarray, own: list[str]) -> pl.Series:
        """Reason codes of the rows for which ``asked``, bool (n,), is true; null for the others."""
        import polars as pl

        from seaway.attribution import contributions, reason_codes

        found: list[Any] = [None] * len(features)
        for row in np.flatnonzero(asked):
            name = own[row] if own else ""
            background, texts = self._slices.background(name) if name and self._slices else self._baseline
            if len(background):
                phi = contributions(lambda some, name=name: self._one(name, some), features[row], background)
                found[row] = reason_codes(phi, self.spec.names, features[row], texts, REASONS)
        kind = {"feature": pl.String, "value": pl.Float64, "contribution": pl.Float64, "text": pl.String}
        return pl.Series("reasons", found, dtype=pl.List(pl.Struct(kind)))

    @cached_property
    def _baseline(self) -> tuple[np.ndarray, dict[str, str]]:
        return np.asarray(self.model.background, dtype=np.float32), self.model.reasons


_opened: list[Answers] = []  # of this process, the last one


def answers(model: Model) -> Answers:
    """Of the version; its sessions are opened once, however many partitions a process scores."""
    if not _opened or _opened[0].model != model:
        _opened[:] = [Answers(model)]
    return _opened[0]
