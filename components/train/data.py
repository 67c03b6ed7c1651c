"""Reading a split of the data set as arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from components.train.rows import Rows
from seaway.config import Config
from seaway.errors import SeawayError
from seaway.features import FeatureSpec


def read_rows(config: Config, spec: FeatureSpec, file: Path) -> Rows:
    """The split's features float32 (n, f) in the spec's order, and its labels float32 (n,).

    Raises SeawayError for a missing file or column, no rows, a label other than 0 and 1, or a
    feature that is not a finite number.
    """
    label = config.workload.label.column
    if not file.exists():
        raise SeawayError(f"the data set has no {file}: run the dataset step first")
    try:
        frame = pl.read_parquet(file, columns=[*spec.names, label])
    except pl.exceptions.ColumnNotFoundError as error:
        raise SeawayError(f"{file} lacks a column ({error}): its features are not those of {spec.version}") from None
    if frame.height == 0:
        raise SeawayError(f"{file} has no rows: the data does not reach back far enough for workload.split")
    rows = Rows(
        np.ascontiguousarray(frame.select(spec.names).cast(pl.Float32).to_numpy()),
        frame[label].cast(pl.Float32).to_numpy(),
    )
    if not np.isin(rows.labels, (0.0, 1.0)).all():
        raise SeawayError(f"{file}: the label {label} has values other than 0 and 1")
    bad = ~np.isfinite(rows.features).all(axis=0)
    if bad.any():
        names = ", ".join(name for name, is_bad in zip(spec.names, bad, strict=True) if is_bad)
        raise SeawayError(f"{file}: not a finite number in {names}")
    return rows
