"""The measured learning curves of a finished sweep, as what a planned sweep's trials are drawn from."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from seaway.errors import SeawayError
from seaway.metrics import LOWER_IS_BETTER

LEAST_TRIALS = 4
TIES = 0.1  # of the noise: tells copies of one curve apart, and does not promise what was never measured
_COLUMNS = ("trial", "epoch", "seconds", "status")


@dataclass(frozen=True)
class Curve:
    """One trial: ``values`` float (epochs,), higher is better, and ``seconds`` float (epochs,) that each epoch takes.

    It ends by itself after ``end`` epochs, the last or by patience; or by an error after all it has (``failed``).
    """

    values: np.ndarray
    seconds: np.ndarray
    end: int
    failed: bool = False


@dataclass(frozen=True)
class Curves:
    """``measured``: one a trial, in their order. ``noise``: how much a value moves between epochs by chance alone.

    ``lengths``: epochs that each had in the measured sweep.
    """

    measured: tuple[Curve, ...]
    metric: str
    noise: float
    lengths: tuple[int, ...] = ()

    def shown(self, value: float) -> float:
        """A value as the metric reads."""
        return -value if self.metric in LOWER_IS_BETTER else value

    def drawn(self, seed: Sequence[int], index: int, in_order: bool) -> Curve:
        """The curve of planned trial ``index``: a measured one, moved by a little chance so that none come twice.

        ``in_order``: the searcher learns, so trial i is drawn from those around the measured i-th, and those after the
        last from the later half. Otherwise from all alike.
        """
        draw = np.random.default_rng([*seed, index])
        count, low, high = len(self.measured), 0, len(self.measured)
        if in_order:
            reach = max(2, count // 8)
            low, high = max(0, index - reach), min(count, index + reach + 1)
            if high - low < reach + 1:
                low, high = count // 2, count
        curve = self.measured[int(draw.integers(low, high))]
        shift = TIES * self.noise * draw.standard_normal()
        return replace(curve, values=curve.values + shift)

    def around(self, seconds: float, slots: int, begin: float) -> float:
        """What of a measured sweep's ``seconds`` its trials do not explain, one after another in ``slots`` places.

        ``begin``: seconds of beginning each.
        """
        places = [0.0] * slots
        for curve, length in zip(self.measured, self.lengths, strict=True):
            heapq.heappush(places, heapq.heappop(places) + begin + float(curve.seconds[:length].sum()))
        return max(0.0, seconds - max(places))


def read(file: Path, metric: str, max_epochs: int, patience: int, cores: float = 1.0) -> Curves:
    """From a sweep's trials.parquet, for trials of ``max_epochs`` and ``patience``; ``cores`` of one trial then.

    An epoch's seconds are those that trials hold their places for, checkpoints and all, where the table has them.

    A trial that the scheduler stopped is continued as one that went further did from that epoch on, the nearest in
    value there: its changes in value, at the stopped trial's own pace. A trial whose patience had ended is taken
    to stay as it was. Raises SeawayError for a file that is missing or no sweep's, fewer than LEAST_TRIALS trials with
    a result, and more epochs than any trial had.
    """
    frame = _frame(file, metric)
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    rows = frame.filter(pl.col("epoch").is_not_null()).sort("trial", "epoch")
    whole = [_Measured(part, metric, sign, cores) for part in rows.partition_by("trial", maintain_order=True)]
    beside = [one.beside for one in whole if one.beside is not None]
    for one in whole:  # the usual: a trial that was the first of its process waited for imports, and others will not
        one.seconds = one.seconds + (float(np.median(beside)) if beside else 0.0)
    good = [one for one in whole if one.status != "failed"]
    longest = max((len(one.values) for one in good), default=0)
    if len(good) < LEAST_TRIALS:
        raise SeawayError(
            f"{file} has {len(good)} trials with a result; a plan needs {LEAST_TRIALS} at the least: "
            "run `seaway tune --trials 8` first"
        )
    if max_epochs > longest and not any(one.status == "finished" for one in good):
        raise SeawayError(
            f"no trial of {file} went beyond epoch {longest}, so workload.sweep.max_epochs: {max_epochs} cannot be "
            "planned from it: plan fewer, or give another sweep with --from"
        )
    made = [_planned(one, good, max_epochs, patience) for one in whole]
    steps = [np.diff(one.values[len(one.values) // 2 :]) for one in good if len(one.values) >= 4]
    # half of the squared difference of neighbours is the variance of each
    noise = float(np.median([np.sqrt(np.mean(s**2) / 2) for s in steps])) if steps else 0.0
    return Curves(tuple(made), metric, noise, tuple(min(len(one.values), max_epochs) for one in whole))


class _Measured:
    def __init__(self, part: pl.DataFrame, metric: str, sign: float, cores: float) -> None:
        self.status = str(part["status"][-1])
        self.values = sign * part[metric].to_numpy().astype(np.float64)
        self.seconds = np.diff(part["seconds"].to_numpy().astype(np.float64), prepend=0.0)
        self.beside: float | None = None  # seconds an epoch in which the trial held its place and did not train
        if "cpu_seconds" in part.columns and part["attempts"][-1] == 1:
            held = float(part["cpu_seconds"][-1]) / cores
            self.beside = max(0.0, held - float(self.seconds.sum())) / len(self.values)


def _planned(one: _Measured, good: list[_Measured], max_epochs: int, patience: int) -> Curve:
    values, seconds = list(one.values), list(one.seconds)
    if one.status == "failed":
        values, seconds = values[:max_epochs], seconds[:max_epochs]
        return Curve(np.asarray(values), np.asarray(seconds), len(values), failed=True)
    # a trial's first epochs are slower than its later ones: by as much as in those that went further
    count = len(values)
    later = [d.seconds[count:].mean() / d.seconds[:count].mean() for d in good if len(d.values) > count]
    usual = float(np.mean(seconds)) * float(np.median(later) if later else 1.0)
    while len(values) < max_epochs:
        donors = [d for d in good if len(d.values) > len(values)] if one.status != "finished" else []
        if not donors:
            values.append(values[-1])  # nobody knows: no better, and no change that a scheduler would see
        else:
            donor = min(donors, key=lambda d: abs(d.values[len(values) - 1] - values[-1]))
            values.append(values[-1] + donor.values[len(values)] - donor.values[len(values) - 1])
        seconds.append(usual)
    values, seconds = values[:max_epochs], seconds[:max_epochs]
    return Curve(np.asarray(values), np.asarray(seconds), _natural_end(values, patience))


def _natural_end(values: list[float], patience: int) -> int:
    """Epochs until the last, or until ``patience`` of them brought nothing better; as ``Training.finished`` has it."""
    best, at = float("-inf"), 0
    for epoch, value in enumerate(values, 1):
        if value > best:
            best, at = value, epoch
        if epoch - at >= patience:
            return epoch
    return len(values)


def _frame(file: Path, metric: str) -> pl.DataFrame:
    if not file.exists():
        raise SeawayError(f"there is no finished sweep at {file}: run `seaway tune` first, or give its trials.parquet")
    try:
        frame = pl.read_parquet(file)
    except pl.exceptions.PolarsError as error:
        raise SeawayError(f"{file} is no table of trials ({error})") from None
    missing = [name for name in (*_COLUMNS, metric) if name not in frame.columns]
    if missing:
        raise SeawayError(f"{file} lacks {', '.join(missing)}: it is no trials.parquet of a sweep by {metric}")
    return frame
