"""The sweep: every cell in parts over two processes, and what came out by cell and gate."""

from __future__ import annotations

import math
import multiprocessing
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.canary import labels
from benchmarks.canary.cells import Cell, World
from benchmarks.canary.competitors import RIVALS
from benchmarks.canary.gates import HELD, LEANING, NO_LOOK, PROMOTED, ROLLED_BACK, Ours, Result, play, rules

PART = 2500  # runs played together
PROCESSES = 2
_AT_CAP = {LEANING: "leaning at the cap", NO_LOOK: "no clean look at the cap"}


@dataclass
class Tally:
    """One gate in one cell."""

    cell: Cell
    gate: str
    result: Result
    same: int | None = None  # restarts: runs that ended as without a restart, at the same block

    @property
    def runs(self) -> int:
        return len(self.result.verdict)

    def count(self, verdict: int) -> int:
        return int((self.result.verdict == verdict).sum())

    def minutes(self, verdict: int) -> tuple[float, float] | None:
        """Median and 95th percentile to this verdict."""
        found = self.result.minute[self.result.verdict == verdict]
        return (float(np.median(found)), float(np.quantile(found, 0.95))) if len(found) else None

    @property
    def causes(self) -> dict[str, int]:
        """Rollbacks by the guardrail that reached its threshold, or by what ended them at the cap."""
        names = dict(enumerate([*rules(self.cell).rails, *rules(self.cell).pairs])) | _AT_CAP
        back = self.result.cause[self.result.verdict == ROLLED_BACK]
        return {name: int((back == i).sum()) for i, name in names.items()}

    @property
    def for_harm(self) -> int:
        """Rollbacks but those for want of a clean look at the cap, which are due whatever the canary is."""
        return self.count(ROLLED_BACK) - self.causes[_AT_CAP[NO_LOOK]]

    @property
    def early(self) -> int:
        """Promotions before a late canary turned bad: it was good then."""
        return int(((self.result.verdict == PROMOTED) & (self.result.minute <= self.cell.onset)).sum())


def wilson(k: int, n: int) -> tuple[float, float]:
    """95 % interval of a share."""
    z, p = 1.96, k / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def _part(task: tuple[Cell, int, tuple[int, ...]]) -> dict[str, tuple[Result, int | None]]:
    """All gates on one part of a cell's runs."""
    cell, runs, seed = task
    world = World(cell, runs, seed)
    ours = play(Ours(cell, runs, seed), world, seed)
    found: dict[str, tuple[Result, int | None]] = {Ours.name: (ours, None)}
    if cell.restarts:
        plain = Cell(**{**vars(cell), "restarts": 0.0})
        twin = play(Ours(plain, runs, seed), world, seed)
        same = (twin.verdict == ours.verdict) & (twin.minute == ours.minute)
        found[Ours.name] = (ours, int(same.sum()))
    if cell.rivals:
        for i, gate in enumerate(RIVALS):
            found[gate.name] = (play(gate(cell, runs, seed), world, (*seed, i + 1)), None)
    return found


def _joined(parts: Iterable[Result]) -> Result:
    columns = zip(*((r.verdict, r.minute, r.bad, r.cause) for r in parts), strict=True)
    return Result(*(np.concatenate(c) for c in columns))


def _run(task: tuple[str, tuple[Any, ...]]) -> Any:
    kind, arguments = task
    return _part(arguments) if kind == "cell" else labels.simulate(*arguments)


def play_all(
    cells: list[Cell], runs: int, label_runs: int, seed: int, told: Callable[[str], None]
) -> tuple[list[Tally], list[labels.Verdicts]]:
    """Every cell and every label cell; ``told`` hears of each cell that is done."""
    sizes = [min(PART, runs - start) for start in range(0, runs, PART)]
    tasks: list[tuple[str, tuple[Any, ...]]] = [
        ("cell", (cell, size, (seed, i, j))) for i, cell in enumerate(cells) for j, size in enumerate(sizes)
    ]
    tasks += [("labels", arguments) for arguments in (labels.sweep(label_runs, seed) if label_runs else [])]
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # one processor a process
    tallies: list[Tally] = []
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        found = pool.imap(_run, tasks)
        for cell in cells:
            parts = [next(found) for _ in sizes]
            for gate in parts[0]:
                same = [part[gate][1] for part in parts]
                total = None if same[0] is None else sum(same)
                tallies.append(Tally(cell, gate, _joined(part[gate][0] for part in parts), total))
            told(cell.name)
        verdicts = list(found)
        pool.close()
        pool.join()  # its processor time counts as ours from now on
        return tallies, verdicts


__all__ = ["HELD", "PROMOTED", "ROLLED_BACK", "Tally", "play_all", "wilson"]
