"""Ten times the published data on one machine: time of features and data set against 1x, peak memory of every step.

The data is the workload's own draw, at both scales in one run. The side at 1x is the quicker of the engines memory and
partitions; at 10x it is partitions.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.scale.bars import Result, main
from benchmarks.scale.build import GIB, build, draw, seconds

TIMES, PEAK = 12.0, 6.0  # x, GiB
COUNTED = ("features", "dataset")


def run() -> list[Result]:
    with tempfile.TemporaryDirectory(prefix="seaway-bench-") as name:
        folder = Path(name)
        data = {scale: folder / f"{scale}.parquet" for scale in ("published", "10x")}
        for scale, file in data.items():
            draw(scale, file)
        return compare(folder, data["published"], data["10x"])


def compare(folder: Path, small: Path, large: Path) -> list[Result]:
    """Build from both files; ``folder`` takes what is made."""
    sides = {}
    for label, file, engine in (
        ("1x memory", small, "memory"),
        ("1x partitions", small, "partitions"),
        ("10x partitions", large, "partitions"),
    ):
        print(f" {label}", flush=True)
        sides[label] = build(folder / label, file, engine, folder / f"home {label}")
    at = {label: seconds(found, COUNTED) for label, found in sides.items()}
    quicker = min(("1x memory", "1x partitions"), key=at.__getitem__)
    ratio = at["10x partitions"] / at[quicker]
    peaks = {step: found["peak"] / GIB for step, found in sides["10x partitions"].items()}
    detail = f"{at['10x partitions']:.1f} s against {at[quicker]:.1f} s ({quicker})"
    shown = ", ".join(f"{step} {peak:.2f}" for step, peak in peaks.items())
    return [
        Result("10x data: features and data set", ratio, TIMES, detail),
        Result("10x data: peak memory of a step", max(peaks.values()), PEAK, shown, unit="GiB"),
    ]


if __name__ == "__main__":
    sys.exit(main(run))
