"""Machines that wear, are inspected, and fail: readings and maintenance drawn from one history.

A machine's wear grows with its load and its own pace, faster at a site with harsh conditions. Vibration
and temperature show it, with noise; the hazard of failure grows steeply with it. A failure or a service
sets it back. The label of a reading: does the machine fail within the next 24 hours? Both tables are
drawn from the same seeded history, so they fit together whichever is asked for first.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

START = np.datetime64("2024-03-01", "us")
HOUR = 3600
STEP = 4 * HOUR  # a reading a step
DAY_AHEAD = 24 * HOUR


def readings(scale: Mapping[str, int], out: Path) -> None:
    """Write the sensor readings of ``scale`` = {machines, sites, days}, ordered by time, to Parquet."""
    table = _history(scale)[0].sort("measured_at", "machine_id")
    table.with_row_index("reading_id").with_columns(pl.col("reading_id").cast(pl.Int64)).write_parquet(out)


def maintenance(scale: Mapping[str, int], out: Path) -> None:
    """Write the inspections of the same machines: wear as measured, hours of operation since the last service."""
    table = _history(scale)[1].sort("inspected_at", "machine_id")
    table.with_row_index("inspection_id").with_columns(pl.col("inspection_id").cast(pl.Int64)).write_parquet(out)


def _history(scale: Mapping[str, int]) -> tuple[pl.DataFrame, pl.DataFrame]:
    n, days = int(scale["machines"]), int(scale["days"])
    rng = np.random.default_rng([n, int(scale["sites"]), days])
    machine, site = np.arange(n), rng.integers(0, int(scale["sites"]), n)
    harsh = rng.lognormal(0.0, 0.45, int(scale["sites"]))[site]
    pace = rng.lognormal(np.log(0.012), 0.4, n) * harsh  # wear a step at full load
    base = rng.normal(2.0, 0.3, n)
    wear, hours, running = rng.uniform(0, 0.7, n), rng.uniform(0, 300, n), np.ones(n, dtype=bool)
    inspected_on = rng.integers(0, 30, n)  # every 30 steps, five days
    rows, inspections, failures = [], [], []
    steps = (days + 1) * DAY_AHEAD // STEP  # one day more, to know the last labels
    for step in range(steps):
        load = np.clip(0.65 + 0.2 * np.sin(2 * np.pi * step * STEP / DAY_AHEAD) + rng.normal(0, 0.12, n), 0.05, 1.0)
        wear += np.where(running, pace * load, 0)
        hours += np.where(running, load * STEP / HOUR, 0)
        second = step * STEP + rng.integers(0, STEP, n)
        seen = running & (rng.random(n) > 0.05)
        vibration = base + 3.0 * wear**2 + rng.normal(0, 0.25, n)
        temperature = 40 + 20 * load + 8 * wear + rng.normal(0, 2.5, n)
        rows.append((machine[seen], site[seen], second[seen], vibration[seen], temperature[seen], load[seen]))

        due = running & (step % 30 == inspected_on)
        measured = np.clip(wear + rng.normal(0, 0.05, n), 0, None)
        serviced = due & (measured > 0.75) & (rng.random(n) < 0.3)
        wear, hours = np.where(serviced, 0.05, wear), np.where(serviced, 0.0, hours)
        measured = np.where(serviced, 0.05, measured)
        moment = np.maximum(second, step * STEP + rng.integers(0, STEP, n))
        inspections.append((machine[due], moment[due], measured[due], hours[due]))

        fails = running & (rng.random(n) < 1 - np.exp(-np.exp(-18 + 16 * wear)))
        failures.append((machine[fails], ((step + 1) * STEP + rng.integers(0, STEP, n))[fails]))
        wear, hours = np.where(fails, rng.uniform(0, 0.1, n), wear), np.where(fails, 0.0, hours)
        running = ~fails  # a failed machine stands still for one step
    return _readings(rows, failures, days), _inspections(inspections, days)


def _readings(rows: list, failures: list, days: int) -> pl.DataFrame:
    machine, site, second, vibration, temperature, load = (np.concatenate(c) for c in zip(*rows, strict=True))
    failed, when = (np.concatenate(c) for c in zip(*failures, strict=True))
    # one sorted axis of all machines' failures: the first one after a reading, on the reading's own stretch
    span = 4 * (days + 2) * DAY_AHEAD
    axis = np.sort(failed * span + when)
    at = machine * span + second
    later = np.append(axis, np.iinfo(np.int64).max)[np.searchsorted(axis, at, side="right")]
    table = pl.DataFrame(
        {
            "measured_at": START + second.astype("timedelta64[s]"),
            "machine_id": machine,
            "site_id": site,
            "vibration": np.clip(vibration, 0.1, 50).round(2),
            "temperature": temperature.round(1),
            "load": load.round(2),
            "failed_within_24h": (later - at <= DAY_AHEAD).astype(np.int64),
        }
    )
    return table.filter(second < days * DAY_AHEAD)


def _inspections(inspections: list, days: int) -> pl.DataFrame:
    machine, second, wear, hours = (np.concatenate(c) for c in zip(*inspections, strict=True))
    table = pl.DataFrame(
        {
            "inspected_at": START + second.astype("timedelta64[s]"),
            "machine_id": machine,
            "wear": wear.round(3),
            "operating_hours": hours.round(1),
        }
    )
    return table.filter(second < days * DAY_AHEAD)
