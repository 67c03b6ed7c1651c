"""``python -m benchmarks.scale [--only NAME ...]``: each benchmark in a process of its own, then one table.

Exit code 1 where a bar is missed or a benchmark ended without a result. Let nothing else run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.scale.bars import Result, table

NAMES = ("target", "overhead", "resume", "planning", "slices", "features", "incremental", "scoring")


def measure(name: str, folder: Path) -> list[Result]:
    """What the benchmark ``name`` gives; nothing where it ended without results."""
    file = folder / f"{name}.json"
    subprocess.run([sys.executable, "-m", f"benchmarks.scale.{name}", "--json", str(file)], check=False)
    return [Result(**record) for record in json.loads(file.read_text())] if file.exists() else []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=", ".join(NAMES))
    options = parser.parse_args()
    results: list[Result] = []
    without: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.only:
            print(f"\n== {name}", flush=True)
            started = time.perf_counter()
            found = measure(name, Path(folder))
            print(f"{name} took {time.perf_counter() - started:.0f} s", flush=True)
            results += found
            if not found:
                without.append(name)
    print(f"\n{len(os.sched_getaffinity(0))} CPUs")
    print("\n".join(table(results)))
    if without:
        print(f"without a result: {', '.join(without)}")
    return int(bool(without) or not all(result.passed for result in results))


if __name__ == "__main__":
    sys.exit(main())
