"""A measured number against the one that was asked for, and how a benchmark of this folder ends."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Result:
    """``measured`` must be at most ``bar``, or at least it with ``least``; both in ``unit`` ("x": a ratio).

    ``detail``: both sides as they were measured, for example "12.1 s against 11.3 s, medians of 5".
    """

    name: str
    measured: float
    bar: float
    detail: str = ""
    unit: str = "x"
    least: bool = False

    @property
    def passed(self) -> bool:
        """Not for what is no number."""
        return self.measured >= self.bar if self.least else self.measured <= self.bar

    def line(self) -> str:
        """For example: ``ok    time to target / random search: asked <= 0.5x, measured 0.31x (…)``."""
        sign, verdict = "≥" if self.least else "≤", "ok  " if self.passed else "MISS"
        asked, measured = (f"{value:.4g}{_spaced(self.unit)}" for value in (self.bar, self.measured))
        detail = f" ({self.detail})" if self.detail else ""
        return f"{verdict}  {self.name}: asked {sign} {asked}, measured {measured}{detail}"


def table(results: Iterable[Result]) -> list[str]:
    """One line a result: name, asked, measured, verdict."""
    rows = [("", "asked", "measured", "")]
    for result in results:
        sign, unit = "≥" if result.least else "≤", _spaced(result.unit)
        asked, measured = f"{sign} {result.bar:.4g}{unit}", f"{result.measured:.4g}{unit}"
        rows.append((result.name, asked, measured, "ok" if result.passed else "MISS"))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return [
        f"{row[0].ljust(widths[0])}  {row[1].rjust(widths[1])}  {row[2].rjust(widths[2])}  {row[3]}".rstrip()
        for row in rows
    ]


def main(run: Callable[[], list[Result]]) -> int:
    """Run one benchmark: its lines, its results as JSON where ``--json FILE`` asks, 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=sys.modules[run.__module__].__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options = parser.parse_args()
    results = run()
    for result in results:
        print(result.line(), flush=True)
    if options.json:
        options.json.write_text(json.dumps([asdict(result) for result in results]))
    return 0 if results and all(result.passed for result in results) else 1


def _spaced(unit: str) -> str:
    return unit if unit in ("x", "%") else f" {unit}"
