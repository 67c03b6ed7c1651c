"""The promotion gate against what others do, on the same canaries: who is promoted, and how soon.

``python -m benchmarks.canary [--runs N] [--quick] [--write-docs]``. Stable at 0.5 % errors, margin 0.5 points, both
alphas 5 %, blocks of a minute, ramp 5/10/25/50 %, cap 240 minutes; then the delayed labels (labels.py) and the
time of one decision. Exit 1 when a bar is missed. ``--write-docs`` puts the tables and pictures into docs/.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from benchmarks.canary import cells, docs, plot, table
from benchmarks.canary.gates import one_decision
from benchmarks.canary.tally import play_all

RUNS, QUICK = 10_000, 500


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=RUNS, help="simulated releases a cell")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} runs a cell, at 10 requests/s only")
    parser.add_argument("--only", default="", help="only the scenarios that begin so; no labels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write-docs", action="store_true", help="put the numbers into docs/")
    args = parser.parse_args(arguments)
    runs, start = QUICK if args.quick else args.runs, time.perf_counter()
    if args.write_docs and (args.quick or args.only):
        parser.error("--write-docs needs the whole sweep")
    wanted = cells.sweep((10,) if args.quick else cells.RATES)
    wanted = [cell for cell in wanted if cell.scenario.startswith(args.only)]
    tallies, verdicts = play_all(wanted, runs, 0 if args.only else runs, args.seed, _told)
    took, decision = time.perf_counter() - start, one_decision()
    parts = docs.Numbers(tallies, verdicts, decision, took, _processor_s(), runs)
    print("\n\n".join(text for _, text in parts.tables()), flush=True)
    missed = table.missed(tallies, decision) + table.labels_missed(verdicts)
    if args.write_docs:
        root = Path(__file__).parents[2] / "docs"
        plot.draw(root / "img", tallies, verdicts)
        docs.write(root / "canary-benchmark.md", parts, missed)
    print(f"\n{len(wanted)} cells of {runs:,} runs in {took:.0f} s ({parts.processor:.0f} s of processor time)")
    print(f"one decision a guardrail: {decision:.2f} ms")
    print("canary: " + ("ok" if not missed else "MISSED: " + "; ".join(missed)))
    return int(bool(missed))


def _processor_s() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def _told(name: str) -> None:
    print(name, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
