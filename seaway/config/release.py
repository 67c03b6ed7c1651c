"""How a candidate is released, and on what evidence it is promoted."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from seaway.config.base import Duration, Section


class Guardrail(Section):
    """Two opposite hypotheses on one rate or mean: worse by at least `margin`, and no worse than `tolerance`."""

    margin: float = Field(gt=0, lt=1)
    tolerance: float | None = Field(default=None, ge=0, lt=1)  # None: none for errors, half the margin for the others
    slo_ms: float | None = None  # latency only: requests slower than this count
    cluster: int | None = Field(default=None, ge=1)  # outcomes that may depend on each other; None: estimated


class Labels(Section):
    """The second stage: losses of both models on the same requests, as their labels become known."""

    loss: Literal["brier", "log"] = "log"
    clip: float = Field(default=0.01, gt=0, lt=0.5)  # log loss: probabilities nearer to 0 or 1 count as this near
    positive_weight: float = Field(default=1.0, gt=0)  # of a positive label against a negative one
    margin: float = Field(gt=0, lt=1)  # of the mean loss difference, losses scaled to 0..1
    tolerance: float = Field(default=0.0, ge=0, lt=1)
    holdback: int = Field(default=5, ge=1, le=50)  # percent that the old champion keeps until labels have confirmed
    wait: Duration = "30d"  # provisional at the longest; then rolled back
    feed: str | None = None  # folder of label files; None: home/labels
    key_file: str | None = None  # the key that signs label entries; None: home/keys/labels.key, made at first use


RateName = Literal["errors", "latency", "decisions_up", "decisions_down"]
PairName = Literal["flips", "score_shift"]


class Release(Section):
    rate: float = 60.0  # requests a second, replayed
    requests: int = 20000  # at the most, a release
    ramp: tuple[int, ...] = (10, 25, 50)
    block: Duration = "1s"
    cap: Duration = "240s"
    alpha_promote: float = 0.05
    alpha_rollback: float = 0.05
    guardrails: dict[RateName | PairName, Guardrail]
    labels: Labels | None = None
    mirror: int = Field(default=0, ge=0, le=100)  # percent of requests that a shadow of the candidate scores too
    crashes: int = Field(default=0, ge=0)  # how many more times than the stable the canary may crash
    split_tolerance: float = Field(default=0.02, gt=0, lt=1)  # how far the observed split may be from the weights

    @model_validator(mode="after")
    def _pairs_need_a_mirror(self) -> Release:
        needing = [name for name in ("flips", "score_shift") if name in self.guardrails]
        needing += ["labels"] if self.labels else []
        if needing and not self.mirror:
            raise ValueError(f"{', '.join(needing)} compare both models on the same requests: set release.mirror")
        return self
