"""Puts the numbers of a run between the markers of docs/canary-benchmark.md; the prose around them is by hand."""

from __future__ import annotations

import datetime
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.canary import table
from benchmarks.canary.labels import Verdicts
from benchmarks.canary.tally import Tally


@dataclass(frozen=True)
class Numbers:
    tallies: list[Tally]
    verdicts: list[Verdicts]
    decision_ms: float
    seconds: float
    processor: float  # seconds of processor time, all processes
    runs: int

    def tables(self) -> list[tuple[str, str]]:
        """(marker, Markdown)."""
        found = [
            ("promoted", table.plain_table(self.tallies)),
            ("times", table.back_table(self.tallies)),
            ("ours", table.ours_table(self.tallies)),
            ("restarts", table.restarts(self.tallies)),
        ]
        return [*found, ("labels", table.labels_table(self.verdicts))] if self.verdicts else found


def machine() -> str:
    """Date, processor, versions."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists() and (line := re.search(r"model name\s*:\s*(.+)", info.read_text())):
        model = line[1]
    day = datetime.datetime.now(datetime.UTC).date()
    return f"{day}, {os.cpu_count()} cores of {model}, Python {platform.python_version()}, numpy {np.__version__}"


def write(path: Path, numbers: Numbers, missed: list[str]) -> None:
    """Replaces what is between ``<!-- name -->`` and ``<!-- /name -->``; a marker that is missing is an error."""
    text = path.read_text()
    verdict = "Every bar is met." if not missed else "Missed: " + "; ".join(missed) + "."
    cells = len({t.cell.name for t in numbers.tallies})
    run = (
        f"{numbers.runs:,} runs a cell, {cells} cells, {numbers.seconds:.0f} s in two processes "
        f"({numbers.processor:.0f} s of processor time); {machine()}. "
        f"One decision takes {numbers.decision_ms:.2f} ms a guardrail. {verdict}"
    )
    for name, body in [("run", run), *numbers.tables()]:
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        if begin not in text or end not in text:
            raise SystemExit(f"{path} has no place for {name}: put {begin} and {end} into it")
        before, rest = text.split(begin, 1)
        text = f"{before}{begin}\n{body}\n{end}{rest.split(end, 1)[1]}"
    path.write_text(text)
