"""How long the published draw takes, in one process: `python -m benchmarks.simulator`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from workload.simulator import PUBLISHED, generate

BAR = 20.0  # seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            start, work = time.perf_counter(), time.process_time()
            generate(PUBLISHED, Path(folder) / "events.parquet")
            seconds.append(time.perf_counter() - start)
            print(f"{seconds[-1]:.1f} s ({time.process_time() - work:.1f} s of processor)", flush=True)
    best = min(seconds)
    verdict = "ok" if best <= BAR else "MISSED"
    print(f"simulator: 1,754,155 rows, best of {rounds}: {best:.1f} s; at most {BAR:.0f} s: {verdict}")
    return int(best > BAR)


if __name__ == "__main__":
    sys.exit(main())
