"""A small draw that several tests read."""

from __future__ import annotations

import polars as pl
import pytest

from workload import simulator


@pytest.fixture(scope="session")
def events(tmp_path_factory) -> pl.DataFrame:
    """400 customers over 110 days, about 90,000 rows."""
    out = tmp_path_factory.mktemp("draw") / "events.parquet"
    simulator.generate({"customers": 400, "terminals": 1500, "days": 110}, out)
    return pl.read_parquet(out)


@pytest.fixture(scope="session")
def columns(events) -> dict:
    from workload.protocol import _load

    return _load(events)
