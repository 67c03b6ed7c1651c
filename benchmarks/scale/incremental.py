"""A new day of ten times the published data: the steps from raw rows to data set against a full build of the same days.

The source is a folder with a file a day. All days but the last are built, the last day's file is added, and both the
incremental and the full build of all days are timed; their results must be the same to the bit.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import polars as pl

from benchmarks.scale.bars import Result, main
from benchmarks.scale.build import build, draw, seconds
from seaway.artifacts import content_hash

BAR = 0.03


def run() -> list[Result]:
    with tempfile.TemporaryDirectory(prefix="seaway-bench-") as name:
        folder = Path(name)
        draw("10x", folder / "10x.parquet")
        return compare(folder, folder / "10x.parquet")


def compare(folder: Path, file: Path) -> list[Result]:
    """Build from ``file`` cut into days; ``folder`` takes what is made."""
    from seaway.config import load

    workload = load().workload
    days = folder / "days"
    last = _cut(file, workload.sources[workload.source].time, days)
    aside = last.rename(folder / last.name)
    print(" all days but the last", flush=True)
    build(folder / "before", days, "partitions", folder / "home")
    aside.rename(last)
    print(" the new day", flush=True)
    new = build(folder / "after", days, "partitions", folder / "home")
    print(" all days anew", flush=True)
    full = build(folder / "full", days, "partitions", folder / "another home")
    same = [content_hash(folder / side / step) for side in ("after", "full") for step in ("features", "dataset")]
    if same[:2] != same[2:]:
        raise SystemExit("the incremental build is not the full one")
    share = seconds(new) / seconds(full)
    parts = ", ".join(f"{step} {new[step]['seconds']:.2f} of {full[step]['seconds']:.1f}" for step in new)
    work = f"{seconds(new, of='work'):.2f} s of processor of {seconds(full, of='work'):.1f}"
    detail = f"{seconds(new):.2f} s of {seconds(full):.1f} s: {parts}; {work}; results equal to the bit"
    return [Result("incremental day / full build", 100 * share, 100 * BAR, detail, unit="%")]


def _cut(file: Path, time: str, folder: Path) -> Path:
    """A file a day; returns the last."""
    folder.mkdir()
    rows = pl.scan_parquet(file)
    edges = rows.select(pl.col(time).min().alias("first"), pl.col(time).max().alias("last")).collect().row(0)
    for day in pl.date_range(*(edge.date() for edge in edges), eager=True).to_list():
        start = pl.lit(day).cast(pl.Datetime("us"))
        of = rows.filter(pl.col(time) >= start, pl.col(time) < start + pl.duration(days=1)).collect()
        of.write_parquet(folder / f"{day}.parquet")
    return sorted(folder.iterdir())[-1]


if __name__ == "__main__":
    sys.exit(main(run))
