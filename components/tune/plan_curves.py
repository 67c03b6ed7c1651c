"""The measured learning curves of a finished sweep, as what a planned sweep's trials are drawn from."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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

    Of the measured sweep, by trial: ``held``, seconds that it held its place for, ``points``, its parameters (() where
    the table lacks some), ``paces``, seconds of an epoch after the first (NaN: not known), and ``epochs`` that it had.
    A first epoch takes ``rate`` as long; ``beside`` are the seconds in which a place is held and nothing trains, of a
    trial and of each epoch; ``process`` those that its process needs before its first trial.
    """

    measured: tuple[Curve, ...]
    metric: str
    noise: float
    held: tuple[float, ...] = ()
    points: tuple[dict[str, Any], ...] = ()
    paces: tuple[float, ...] = ()
    epochs: tuple[int, ...] = ()
    rate: float = 1.0
    beside: tuple[float, float] = (0.0, 0.0)
    process: float = 0.0
    patience: int = 0

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
        for held in self.held:
            heapq.heappush(places, heapq.heappop(places) + begin + held)
        return max(0.0, seconds - max(places))


def read(
    file: Path, metric: str, max_epochs: int, patience: int, cores: float = 1.0, space: Iterable[str] = ()
) -> Curves:
    """From a sweep's trials.parquet, for trials of ``max_epochs`` and ``patience``; ``cores`` of one trial then.

    ``space``: names of the parameters.

    An epoch's seconds are those that trials hold their places for, checkpoints and all, where the table has them.

    A trial that the scheduler stopped is continued as one that went further did from that epoch on, the nearest in
    value there: its changes in value, at the stopped trial's own pace. A trial whose patience had ended is taken
    to stay as it was. Raises SeawayError for a file that is missing or no sweep's, fewer than LEAST_TRIALS trials with
    a result, and more epochs than any trial had.
    """
    frame = _frame(file, metric)
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    rows = frame.filter(pl.col("epoch").is_not_null()).sort("trial", "epoch")
    whole = [Measured(part, metric, sign, cores) for part in rows.partition_by("trial", maintain_order=True)]
    held = tuple(float(one.seconds.sum()) + (one.beside or 0.0) for one in whole)
    rate, beside, process = usual(whole)
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
    names = list(space)
    firsts = rows.group_by("trial", maintain_order=True).first()
    known = bool(names) and all(name in rows.columns and not firsts[name].null_count() for name in names)
    points = tuple(firsts.select(names).to_dicts()) if known else ()
    paces, epochs = tuple(one.pace for one in whole), tuple(len(one.values) for one in whole)
    return Curves(tuple(made), metric, noise, held, points, paces, epochs, rate, beside, process, patience)


class Measured:
    """One trial as the table has it; ``pace``: seconds of an epoch after the first."""

    def __init__(self, part: pl.DataFrame, metric: str, sign: float, cores: float) -> None:
        self.status = str(part["status"][-1])
        self.values = sign * part[metric].to_numpy().astype(np.float64)
        self.seconds = np.diff(part["seconds"].to_numpy().astype(np.float64), prepend=0.0)
        self.beside: float | None = None  # seconds in which the trial held its place and did not train
        if "cpu_seconds" in part.columns and part["attempts"][-1] == 1:
            held = float(part["cpu_seconds"][-1]) / cores
            self.beside = max(0.0, held - float(self.seconds.sum()))
        self.pace = float(np.median(self.seconds[1:])) if len(self.seconds) > 1 else float("nan")


def usual(whole: Sequence[Measured]) -> tuple[float, tuple[float, float], float]:
    """Rate, beside and process as ``Curves`` has them; every trial's ``seconds`` and ``pace`` become what is usual.

    The first trial of a process waits for imports, which others will not: it takes more than twice what is usual.
    """
    whole_besides = [(one.beside, len(one.values)) for one in whole if one.beside is not None]
    longest = max((count for _, count in whole_besides), default=1)
    epoch = float(np.median([b / n for b, n in whole_besides if n == longest] or [0.0]))
    trial = max(0.0, float(np.median([b - epoch * n for b, n in whole_besides] or [0.0])))
    later = [one for one in whole if len(one.seconds) > 1 and one.pace > 0]
    paces = [one.pace for one in later]
    rates = sorted(float(one.seconds[0] / one.pace) for one in later)
    rate = rates[(len(rates) - 1) // 2] if rates else 1.0
    begun = []
    for one in whole:
        alone = len(one.seconds) == 1
        first = rate * (max(paces, default=float("inf")) if alone else one.pace)
        over = max(0.0, (one.beside or 0.0) - trial - epoch * len(one.values))
        over += max(0.0, float(one.seconds[0]) - first)
        if over > first > 0:
            begun.append(over)
        if one.seconds[0] > 2 * first:
            one.seconds[0] = rate * float(np.median(paces)) if alone else first
        elif alone:
            one.pace = float(one.seconds[0]) / rate
        one.seconds = one.seconds + epoch
        one.seconds[0] += trial
    return rate, (trial, epoch), float(np.median(begun)) if begun else 0.0


def _planned(one: Measured, good: list[Measured], max_epochs: int, patience: int) -> Curve:
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
    return Curve(np.asarray(values), np.asarray(seconds), natural_end(values, patience))


def natural_end(values: Sequence[float] | np.ndarray, patience: int) -> int:
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
