"""Groups of rows by a column's cut points, by hour bands or by value."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl

from seaway.config import Segment
from seaway.errors import SeawayError

MAX_GROUPS = 20  # by value: the largest ones


def groups(segment: Segment, frame: pl.DataFrame) -> dict[str, np.ndarray]:
    """Row masks (n,) by the group's words, in order. Raises SeawayError for a column that is not there.

    ``cuts``: below the first, between each two, from the last on. ``hours``: bands of the time of day,
    from each hour to the next, around midnight.
    """
    if segment.column not in frame.columns:
        raise SeawayError(f"segment {segment.name!r} names column {segment.column!r}, which the data set has not")
    column = frame[segment.column]
    if segment.hours:
        return _bands(segment.hours, column.cast(pl.Datetime("us")).dt.hour().to_numpy())
    if segment.cuts:
        return _cuts(segment.cuts, column.cast(pl.Float64).to_numpy())
    common = column.value_counts(sort=True)[segment.column].head(MAX_GROUPS).to_list()
    return {str(value): (column == value).fill_null(False).to_numpy() for value in sorted(common, key=str)}


def _cuts(cuts: tuple[float, ...], values: np.ndarray) -> dict[str, np.ndarray]:
    edges = sorted(cuts)
    place = np.searchsorted(edges, values, side="right")
    words = [f"below {edges[0]:g}", *(f"{a:g} to {b:g}" for a, b in pairwise(edges))]
    return {name: place == i for i, name in enumerate([*words, f"{edges[-1]:g} and above"])}


def _bands(hours: tuple[int, ...], values: np.ndarray) -> dict[str, np.ndarray]:
    edges = sorted(set(hours))
    place = np.searchsorted(edges, values, side="right") % len(edges)  # before the first: the last band
    names = [f"{edges[i - 1]} to {edges[i]} h" for i in range(len(edges))]
    return {names[i]: place == i for i in [*range(1, len(edges)), 0]}
