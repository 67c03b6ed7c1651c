"""The published evaluation protocol: four test folds, parameters chosen on four earlier ones.

Source of the protocol and of the published figures: Fraud Detection Handbook, chapters 3 and 5 to 7.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from seaway import metrics
from seaway.errors import SeawayError
from seaway.features import DAY, request_values, vector, window_table
from seaway.processes import die_with_parent
from workload import recipe
from workload.folds import TEST_STARTS, VALIDATION_STARTS, Fold, split
from workload.own_features import own_features
from workload.protocol_table import render  # noqa: F401  the command line finds it here

COLUMNS = ("TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT", "TX_FRAUD")
METRICS = ("auc_roc", "average_precision", "card_precision_at_100")
WORKERS = 2

_BASE = {"learning_rate": 2e-3, "hidden": 64, "layers": 2, "batch_size": 256, "members": 4, "negatives": 0.2}
_WIDE = {"hidden": 128, "epochs": 50, "dropout": 0.3}
# each row: kind of model, days of history to learn from, whether own features are added, the grid
ROWS: dict[str, dict[str, Any]] = {
    "published-features": {
        "kind": "network",
        "history": 7,
        "own": False,
        "grid": [
            {**_BASE, "epochs": 40, "dropout": 0.15},
            # nearly balanced classes: worse average precision, better ranking of the rest
            {**_BASE, "epochs": 120, "dropout": 0.3, "negatives": 0.03, "members": 8},
            # members that are given less, beside the full ones
            {**_BASE, **_WIDE, "members": 6, "plain": 2, "logs": 2},
            {**_BASE, **_WIDE, "members": 4, "logs": 2},
            {**_BASE, **_WIDE, "members": 2, "logs": 2},
        ],
    },
    "own-features": {
        "kind": "network",
        "history": 28,
        "own": True,
        "grid": [{**_BASE, "epochs": 12, "dropout": p, "negatives": 0.1} for p in (0.15,)],
    },
    "logistic-regression": {
        "kind": "logistic",
        "history": 7,
        "own": False,
        "grid": [{"C": c} for c in (0.1, 1.0, 10.0, 100.0)],
    },
}


def published(
    valid_events: Any, *, progress: Callable[[str], None] | None = None, seed: int = 0, rows: Iterable[str] = ROWS
) -> dict[str, Any]:
    """Run the protocol on events (a Parquet file or a Polars frame with ``COLUMNS``).

    Returns per row of the table the means over the test folds of ``METRICS``, their population standard
    deviation (``<metric>_std``), the values by fold, and what was chosen on the validation folds, for each
    metric apart; with them ``card_precision_ceiling``, which a perfect ranking would reach.
    Raises SeawayError for missing columns and for data too short for the folds.
    """
    say = progress or (lambda text: None)
    columns = _load(valid_events)
    days = columns["TX_DATETIME"] // DAY
    about = {"days": days, "customers": columns["CUSTOMER_ID"], "labels": columns["TX_FRAUD"]}
    ceiling = [
        measure(about, fold.assess, about["labels"][fold.assess].astype(np.float64))
        for fold in split(**about, starts=TEST_STARTS)
    ]
    split(**about, starts=VALIDATION_STARTS)  # too short data end here, before any work
    say("computing features")
    inputs = features(columns, own=any(ROWS[name]["own"] for name in rows))
    result: dict[str, Any] = {
        "protocol": "published",
        "events": len(days),
        "assessed": [len(fold.assess) for fold in split(**about, starts=TEST_STARTS)],
        "card_precision_ceiling": float(np.mean([c["card_precision_at_100"] for c in ceiling])),
    }
    # a pool's workers hold their own queue open: without this they would outlive a killed parent
    with ProcessPoolExecutor(WORKERS, get_context("spawn"), die_with_parent, (os.getpid(),)) as pool:
        for name in rows:
            result[name] = _row(name, ROWS[name], about, inputs, pool, say, seed)
    return result


def _load(events: Any) -> dict[str, np.ndarray]:
    import polars as pl

    frame = pl.read_parquet(events) if isinstance(events, (str, Path)) else events
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise SeawayError(f"the published protocol needs columns that are missing: {', '.join(missing)}")
    frame = frame.select(COLUMNS).sort("TX_DATETIME", "TRANSACTION_ID")
    columns = {name: frame[name].to_numpy() for name in COLUMNS if name != "TX_DATETIME"}
    return columns | {"TX_DATETIME": frame["TX_DATETIME"].dt.timestamp("us").to_numpy()}


def features(columns: Mapping[str, np.ndarray], own: bool) -> dict[bool, np.ndarray]:
    """Inputs float32 (n, f): the published ones under False and, if asked for, with our own under True."""
    from feature_repo.definitions import FEATURES

    times = columns["TX_DATETIME"]
    table = request_values(FEATURES, columns)
    for window in FEATURES.windows:
        table |= window_table(window, columns[window.key], times, columns[window.value])
    plain = vector(FEATURES, table)
    if not own:
        return {False: plain}
    return {False: plain, True: np.column_stack([plain, *own_features(columns, times).values()])}


def measure(about: Mapping[str, np.ndarray], rows: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """The three published metrics of ``scores`` (m,) for the assessed ``rows`` (m,)."""
    labels = about["labels"][rows]
    return {
        "auc_roc": float(metrics.auc_roc(scores, labels)),
        "average_precision": float(metrics.average_precision(scores, labels)),
        "card_precision_at_100": float(
            metrics.precision_at_k(about["days"][rows], about["customers"][rows], scores, labels, 100)
        ),
    }


def _row(name, row, about, inputs, pool, say, seed) -> dict[str, Any]:
    """One row of the table: the grid on the validation folds, then the winners on the test folds."""
    matrix = inputs[row["own"]]

    def run(grid: list[dict[str, Any]], starts: tuple[int, ...]) -> list[list[dict[str, float]]]:
        folds: list[Fold] = split(**about, starts=starts, history=row["history"])
        futures = [
            [
                pool.submit(
                    recipe.scores,
                    row["kind"],
                    params,
                    matrix[f.train],
                    about["labels"][f.train],
                    matrix[f.assess],
                    seed,
                )
                for f in folds
            ]
            for params in grid
        ]
        return [
            [measure(about, f.assess, future.result()) for f, future in zip(folds, line, strict=True)]
            for line in futures
        ]

    grid = row["grid"]
    say(f"{name}: {len(grid)} settings on the validation folds")
    validation = [_summary(folds) for folds in run(grid, VALIDATION_STARTS)]
    best = {metric: max(range(len(grid)), key=lambda i: validation[i][metric]) for metric in METRICS}
    chosen = sorted(set(best.values()))
    say(f"{name}: {len(chosen)} chosen on the test folds")
    tested = dict(zip(chosen, map(_summary, run([grid[i] for i in chosen], TEST_STARTS)), strict=True))
    out: dict[str, Any] = {"chosen": {metric: grid[i] for metric, i in best.items()}, "folds": {}}
    for metric, i in best.items():
        out[metric], out[f"{metric}_std"] = tested[i][metric], tested[i][f"{metric}_std"]
        out["folds"][metric] = tested[i]["folds"][metric]
    out["validation"] = [{"params": p, **{m: v[m] for m in METRICS}} for p, v in zip(grid, validation, strict=True)]
    say(f"{name}: " + ", ".join(f"{m} {out[m]:.3f}" for m in METRICS))
    return out


def _summary(folds: list[dict[str, float]]) -> dict[str, Any]:
    """Mean, population standard deviation and values by fold of each metric."""
    values = {metric: [fold[metric] for fold in folds] for metric in METRICS}
    return {
        **{metric: float(np.mean(v)) for metric, v in values.items()},
        **{f"{metric}_std": float(np.std(v)) for metric, v in values.items()},
        "folds": values,
    }
