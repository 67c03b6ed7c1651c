"""The toy workload's data: few entities, many events of the same second and exactly a window apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from components.features.step import features
from seaway.config import Config, load
from tests.feature_repo.toy.definitions import SPEC

WORKLOAD = Path(__file__).parent / "toy" / "workload.yaml"
START = np.datetime64("2024-01-01", "us").astype(np.int64)
MINUTE = 60_000_000


def config(home: Path) -> Config:
    return load(workload=WORKLOAD, overrides={"home": str(home)})


def events(rows: int = 3000, days: int = 24, seed: int = 0) -> pl.DataFrame:
    """Valid visits: times on a grid of 20 minutes (so windows end exactly on events), some with fractions."""
    draw = np.random.default_rng(seed)
    times = START + draw.integers(0, days * 72, rows) * 20 * MINUTE
    times = np.sort(times + np.where(draw.random(rows) < 0.2, draw.integers(0, 10**6, rows), 0))
    return pl.DataFrame(
        {
            "id": np.arange(rows),
            "at": pl.Series(times).cast(pl.Datetime("us")),
            "person": draw.integers(0, 12, rows),
            "shop": draw.integers(0, 8, rows),
            "price": np.round(draw.gamma(2, 20, rows), 2),
            "returned": (draw.random(rows) < 0.2).astype(np.int64),
        }
    )


def ratings(days: int = 24, seed: int = 0) -> pl.DataFrame:
    draw = np.random.default_rng(seed + 1)
    rows = days * 3
    times = np.sort(START + draw.integers(0, days * 72, rows) * 20 * MINUTE + draw.integers(0, 2, rows) * 500_000)
    return pl.DataFrame(
        {
            "rated_at": pl.Series(times).cast(pl.Datetime("us")),
            "shop": draw.integers(0, 7, rows),  # shop 7 is never rated
            "stars": np.round(draw.random(rows) * 5, 1),
        }
    )


def valid(folder: Path, **options) -> Path:
    """A validation step's output."""
    folder.mkdir(parents=True, exist_ok=True)
    events(**options).write_parquet(folder / "visits.parquet")
    ratings().write_parquet(folder / "ratings.parquet")
    return folder


def made_features(folder: Path, **options) -> Path:
    """A features step's output."""
    features(config(folder).workload, SPEC, valid(folder / "valid", **options), folder / "features")
    return folder / "features"
