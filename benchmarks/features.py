"""The fifteen features of the published draw: ours, and rolling windows in pandas group by group.

`python -m benchmarks.features [--data EVENTS.parquet] [--share 0.1]`. Both sides run here, one after the
other; pandas gets a share of the customers and terminals and its time is scaled up by their rows, unless
`--share 1`. The values of both are compared on the way.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl

from feature_repo.definitions import FEATURES
from workload.protocol import COLUMNS, features
from workload.simulator import PUBLISHED, generate

BAR = 6.0  # seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="events (default: the published draw, made first)")
    parser.add_argument("--share", type=float, default=0.1, help="share of the entities that pandas gets")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = args.data or Path(folder) / "events.parquet"
        if args.data is None:
            generate(PUBLISHED, data)
        frame = pl.read_parquet(data, columns=list(COLUMNS))
    columns = {name: frame[name].to_numpy() for name in COLUMNS if name != "TX_DATETIME"}
    columns["TX_DATETIME"] = frame["TX_DATETIME"].dt.timestamp("us").to_numpy()

    ours = []
    for _ in range(args.rounds):
        start = time.perf_counter()
        matrix = features(columns, own=False)[False]
        ours.append(time.perf_counter() - start)
    table = dict(zip(FEATURES.names, matrix.T, strict=True))
    rolling, differing = _pandas(columns, table, args.share)
    best = min(ours)
    print(f"ours:   {len(matrix):,} rows, best of {args.rounds}: {best:.2f} s")
    print(
        f"pandas: {rolling:.1f} s" + ("" if args.share >= 1 else f", scaled up from {args.share:.0%} of the entities")
    )
    print(f"ratio:  {rolling / best:.0f}; values that differ by more than 1e-4: {differing}")
    print(f"features: {best:.2f} s; at most {BAR:.0f} s: {'ok' if best <= BAR else 'MISSED'}")
    return int(best > BAR or differing > 0)


def _pandas(columns: dict, table: dict, share: float) -> tuple[float, int]:
    """Seconds for all entities (scaled up by rows), and the number of values that differ from ``table``."""
    when = pd.to_datetime(columns["TX_DATETIME"], unit="us")
    total, differing = 0.0, 0
    for key, value, delay in (("CUSTOMER_ID", "TX_AMOUNT", 0), ("TERMINAL_ID", "TX_FRAUD", 7)):
        names = np.unique(columns[key])
        some = np.isin(columns[key], names[: max(1, int(len(names) * share))])
        rows = np.flatnonzero(some)
        frame = pd.DataFrame({"key": columns[key][rows], "value": columns[value][rows]}, index=when[rows])
        start = time.perf_counter()
        found = {name: np.zeros(len(rows)) for name in FEATURES.names if name.startswith(key)}
        for positions in frame.groupby("key").indices.values():
            _group(frame["value"].iloc[positions], key, delay, found, positions)
        total += (time.perf_counter() - start) * len(some) / len(rows)
        differing += sum(int((np.abs(found[name] - table[name][rows]) > 1e-4).sum()) for name in found)
    return total, differing


def _group(series: pd.Series, key: str, delay: int, found: dict, positions: np.ndarray) -> None:
    late = series.rolling(f"{delay}D") if delay else None
    for n in (1, 7, 30):
        rolling = series.rolling(f"{delay + n}D")
        count, total = rolling.count().to_numpy(), rolling.sum().to_numpy()
        if late is not None:
            count, total = count - late.count().to_numpy(), total - late.sum().to_numpy()
        mean = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
        label = "RISK" if delay else "AVG_AMOUNT"
        found[f"{key}_NB_TX_{n}DAY_WINDOW"][positions] = count
        found[f"{key}_{label}_{n}DAY_WINDOW"][positions] = mean


if __name__ == "__main__":
    sys.exit(main())
