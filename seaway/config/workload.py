"""The workload: all that is particular to one prediction problem."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field, field_validator

from seaway.config.base import Duration, Section, StepResources

FILES = 1000  # seaway.signature.MAX_FILES; imported, every step would seem to read what keys do
MAX_SLICES = (FILES - 40) // 2  # two files each beside those of the global model, of which there are ten


class Column(Section):
    """The contract of one column of a source."""

    type: Literal["int", "float", "str", "datetime"]
    minimum: float | datetime | None = None
    maximum: float | datetime | None = None
    allowed: tuple[int | float | str, ...] | None = None
    nullable: bool = False


class Source(Section):
    """One table of events: where it comes from and what its rows must look like."""

    path: str | None = None  # Parquet or CSV; file, folder or glob. None: ask the generator
    generator: str | None = None  # "module:function"(scale: dict, out: Path)
    id: str | None = None  # unique row id column, if there is one
    time: str  # event time column, UTC
    columns: dict[str, Column]


class Label(Section):
    column: str
    delay: Duration = "0d"  # after the event, until the label is known


class Split(Section):
    """Lengths, counted back from the end of the data: sweep | delay | valid | train | delay | test | replay."""

    train: Duration = "28d"
    valid: Duration = "7d"
    test: Duration = "7d"
    replay: Duration = "7d"


class Segment(Section):
    """Rows grouped by a column of the data set: by cut points, by hour bands or by value."""

    name: str
    column: str
    cuts: tuple[float, ...] | None = None
    hours: tuple[int, ...] | None = None


class Parameter(Section):
    """One dimension of the search space."""

    kind: Literal["choice", "float", "log_float", "int"]
    values: tuple[int | float | str, ...] | None = None
    low: float | None = None
    high: float | None = None


class Stop(Section):
    """When a whole sweep ends before its last trial."""

    value: float | None = None  # a trial's metric has reached it
    after: Duration | None = None  # since the sweep began, breaks not counted


class TrialResources(StepResources):
    """What one trial holds while it runs."""

    memory: str = "1Gi"
    gpu: float = Field(default=0, ge=0)  # below 1: several trials share one


class Sweep(Section):
    """One definition of a sweep, wherever its trials run."""

    space: dict[str, Parameter]
    metric: str = "average_precision"
    trials: int = Field(default=8, ge=1)
    max_epochs: int = Field(default=20, ge=1)
    grace_epochs: int = Field(default=1, ge=1)  # asha, bohb: before the first decision
    seed: int = 0
    searcher: Literal["tpe", "random"] = "tpe"
    scheduler: Literal["asha", "bohb", "pbt", "none"] = "asha"
    reduction: int = Field(default=3, ge=2)  # asha, bohb: one of so many goes on
    patience: int = Field(default=8, ge=1)  # epochs without a better one, then a trial ends
    population: int = Field(default=8, ge=2)  # pbt: members
    interval: int = Field(default=4, ge=1)  # pbt: epochs between generations
    resources: TrialResources = TrialResources()
    retries: int = Field(default=2, ge=0)  # of a trial that ends by an error
    warm_start: int = Field(default=3, ge=0)  # best points of earlier sweeps that are tried first
    stop: Stop = Stop()


class Slices(Section):
    """A model for each value of a column; values with too little data keep the global model."""

    by: str  # column of the data set that a caller sends, or a feature
    minimum_rows: int = Field(default=500, ge=1)
    minimum_positives: int = Field(default=20, ge=1)
    maximum: int = Field(default=300, ge=1)  # values at the most, 480 or fewer: an id is no slice
    bootstrap: int = Field(default=200, ge=1)  # resamples of each comparison with the global model

    @field_validator("maximum")
    @classmethod
    def _fits_a_bundle(cls, maximum: int) -> int:
        if maximum > MAX_SLICES:
            raise ValueError(
                f"a signed bundle holds {FILES} files, which is room for {MAX_SLICES} slices of two files each: "
                f"set {MAX_SLICES} or less, or take a coarser column"
            )
        return maximum


class Gates(Section):
    """What a candidate must reach on held-out rows before it may be released."""

    metric: str = "average_precision"
    minimum: dict[str, float] = Field(default_factory=dict)
    max_regression: float = 0.02  # against the champion on the same rows, lower bound of the interval
    max_segment_regression: float = 0.10
    min_segment_rows: int = 500
    min_positives: int = 30
    bootstrap: int = 200


class Workload(Section):
    """All that is particular to one prediction problem."""

    name: str
    root: str = "."  # folder, relative to this file, from which the hooks below are imported
    source: str  # the name of the main source in `sources`
    sources: dict[str, Source]
    scales: dict[str, dict[str, Any]] = Field(default_factory=dict)  # sizes of the generated data
    scale: str | None = None  # the one that is generated unless another is asked for
    entities: dict[str, str]  # entity name -> join key column
    label: Label
    feature_repo: str  # folder with the Feast definitions, relative to root
    features: str  # "module:OBJECT", a seaway.features.FeatureSpec
    model: str  # "module": build(params, mean, std) -> torch.nn.Module of raw float32 features to logits
    split: Split = Split()
    quarantine_limit: float = 0.01
    segments: tuple[Segment, ...] = ()
    top_k: dict[str, Any] = Field(default_factory=dict)  # {entity: name, k: 100}: precision of the k riskiest a day
    sweep: Sweep
    slices: Slices | None = None
    gates: Gates = Gates()
    protocols: dict[str, str] = Field(default_factory=dict)  # evaluation protocol -> "module:function"
