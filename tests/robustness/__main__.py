"""Many histories: ``python -m tests.robustness --count 1000 [--seed N] [--jobs 2] [--failfast]``.

A history that breaks an invariant is saved under ``--out`` with the command that plays it again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.robustness.checks import check
from tests.robustness.history import History
from tests.robustness.many import run

AGAIN = "python -m tests.robustness --count 1 --seed"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.robustness", description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the first history")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--failfast", action="store_true")
    parser.add_argument("--out", default=".seaway/robustness", help="where failing histories are kept")
    parser.add_argument("--recheck", metavar="FILE", help="only check a saved history again")
    options = parser.parse_args(arguments)
    if options.recheck:
        found = check(History.load(Path(options.recheck)))
        print("\n".join(found) or "no violation")
        return bool(found)
    began, played, failed = time.monotonic(), [], 0
    for seed, numbers, violations in run(range(options.seed, options.seed + options.count), options.jobs, options.out):
        played.append(numbers)
        if violations:
            failed += 1
            print(
                f"seed {seed}: {len(violations)} violations; again: python -m tests.robustness --count 1 --seed {seed}"
            )
            for text in violations[:3]:
                print(f"    {text[:1000]}")
            if options.failfast:
                break
        if len(played) % 50 == 0:
            print(
                f"{len(played)} of {options.count} histories, {failed} failed, {time.monotonic() - began:.0f} s",
                flush=True,
            )
    _print(played, failed, time.monotonic() - began)
    return int(failed > 0)


def _print(played: list[dict[str, Any]], failed: int, seconds: float) -> None:
    whole = [p for p in played if p]
    faults: Counter = sum((p["faults"] for p in whole), Counter())
    print(f"\n{len(played)} histories in {seconds:.0f} s: {failed} with a violation")
    for what in ("events", "commits", "killed"):
        print(f"  {what:<8} {sum(p[what] for p in whole):>9,}")
    print("faults injected")
    for what, times in sorted(faults.items()):
        print(f"  {times:>8,}  {what}")
    print("verdicts by truth (of histories whose spec stayed)")
    for title, chosen in (("under faults", False), ("no fault at all", True)):
        table: dict[str, Counter] = {}
        for p in whole:
            if p["calm"] == chosen and not p["anew"]:
                table.setdefault(p["truth"], Counter())[p["verdict"]] += 1
        for truth, verdicts in sorted(table.items()):
            print(f"  {title:<16} {truth:<13} " + ", ".join(f"{v} {n}" for v, n in verdicts.most_common()))


if __name__ == "__main__":
    sys.exit(main())
