"""Time until a validation average precision is reached: our sweep, random search, Optuna's own successive halving.

``python -m benchmarks.scale.target [--json FILE]``. Same rows, space, trial (the sweep's own training, one thread) and
number of trials at a time (two) on all sides. Random search trains each point to its last epoch. Optuna's side is two
processes that share a study, with TPE and SuccessiveHalvingPruner. Ours is a sweep as `seaway tune` runs it, with the
defaults of workload.sweep but for the space and the epochs, and all the work of its checkpoints and records.

The target was fixed beforehand: of the random points whose full curves benchmarks.scale.curves records, 96 in 100 never
reach it. Seeds are those of the search; the training of one point is always the same. Time is counted from the start of
the first process ("with start-up": Python, imports, reading, Ray) and from the beginning of the first trial.
"""

from __future__ import annotations

import json
import selectors
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.scale import subject
from benchmarks.scale.bars import Result, main
from benchmarks.scale.sweeping import SLOTS, settled
from seaway.hooks import resolve

TARGET = 0.766
SEEDS = 7
RANDOM_SEEDS = 5  # random search takes the longest, and its bar is far
TRIALS = 400  # more than any side needs
LIMIT = 400.0  # seconds; who has not reached it by then counts with them
RANDOM_LIMIT = 150.0  # of random search, which takes minutes: to count it with fewer seconds flatters it


@dataclass(frozen=True)
class Reached:
    """``seconds`` from the first process's start, ``working`` from the first trial's beginning; both LIMIT if never."""

    seconds: float
    working: float
    epochs: int


def rival(side: str, folder: Path, seed: int, study: Path, limit: float = LIMIT) -> Reached:
    """Two processes of ``side``, until one of them reaches the target; both are then killed."""
    started, begun, epochs = time.time(), 0.0, 0
    command = [sys.executable, "-m", "benchmarks.scale.rivals", side, str(folder), str(seed)]
    processes = [
        subprocess.Popen([*command, str(worker), str(study)], stdout=subprocess.PIPE, text=True, bufsize=1)
        for worker in range(SLOTS)
    ]
    waiting = selectors.DefaultSelector()
    for process in processes:
        waiting.register(process.stdout, selectors.EVENT_READ)
    try:
        while time.time() - started < limit:
            for key, _ in waiting.select(1.0):
                words = key.fileobj.readline().split()
                if not words:
                    raise SystemExit(f"a process of {side} ended by itself")
                if words[0] == "begin":
                    begun = min(begun or float(words[1]), float(words[1]))
                    continue
                epochs += 1
                if float(words[2]) >= TARGET:
                    return Reached(float(words[0]) - started, float(words[0]) - begun, epochs)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return Reached(limit, limit, epochs)


def ours(folder: Path, seed: int) -> Reached:
    """A sweep in a process of its own, ended by its stop rule."""
    started = time.time()
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "benchmarks.scale.target", "--sweep", str(folder), str(seed), out]
        subprocess.run(command, check=True, timeout=LIMIT * 2, stdout=subprocess.DEVNULL)
        told = json.loads((Path(out) / "reached.json").read_text())
    if not told["at"]:
        return Reached(LIMIT, LIMIT, told["epochs"])
    return Reached(told["at"] - started, told["at"] - told["begun"], told["epochs"])


class Looking:
    """An ``Ending`` of the sweep that also notes when the first trial began and the target was reached."""

    def __init__(self, metric: str) -> None:
        self._metric, self._since = metric, time.time()
        self.told: dict[str, Any] = {"at": 0.0, "begun": 0.0, "epochs": 0}

    def must_end(self, records: Any) -> str:
        epochs = [epoch for record in records for epoch in record["epochs"]]
        now, told = time.time(), self.told
        if epochs and not told["begun"]:
            told["begun"] = now - max(epoch["seconds"] for epoch in epochs)
        told["epochs"] = len(epochs)
        if any(epoch[self._metric] >= TARGET for epoch in epochs):
            told["at"] = told["at"] or now
            return "the target is reached"
        return "it takes too long" if now - self._since > LIMIT else ""


def sweep(folder: Path, seed: int, out: Path) -> None:
    """Our side, in this process."""
    from components.tune.step import search
    from components.tune.sweep import Hooks

    config = settled(out, seed=seed, trials=TRIALS, warm_start=0)
    spec = resolve(config.workload.features, config.root)
    looking = Looking(config.workload.sweep.metric)
    search(config, spec, folder / "dataset", out / "sweep", hooks=Hooks(endings=(looking,)))
    (out / "reached.json").write_text(json.dumps(looking.told))


def compared(found: dict[str, list[Reached]], other: str, bar: float) -> list[Result]:
    """Ours against ``other``, with and without start-up."""
    made = []
    for name, of in (("with start-up", lambda r: r.seconds), ("from the first trial on", lambda r: r.working)):
        us, them = (statistics.median(of(r) for r in found[side]) for side in ("ours", other))
        detail = f"{us:.1f} s against {them:.1f} s, medians of {len(found['ours'])} and {len(found[other])} seeds"
        made.append(Result(f"time to target / {other}, {name}", us / them, bar, detail))
    return made


def run() -> list[Result]:
    found: dict[str, list[Reached]] = {"ours": [], "Optuna's halving": [], "random search": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subject.made(folder)
        for seed in range(SEEDS):
            found["ours"].append(ours(folder, seed))
            found["Optuna's halving"].append(rival("halving", folder, seed, folder / f"study-{seed}"))
            if seed < RANDOM_SEEDS:
                found["random search"].append(rival("random", folder, seed, folder / "none", RANDOM_LIMIT))
            line = (
                f"{side} {r[-1].seconds:.1f} s ({r[-1].working:.1f}, {r[-1].epochs} epochs)"
                for side, r in found.items()
            )
            print(f"seed {seed}: {', '.join(line)}", flush=True)
    for side, all_ in found.items():
        epochs = statistics.median(r.epochs for r in all_)
        limit = RANDOM_LIMIT if side == "random search" else LIMIT
        print(f"{side}: {epochs:.0f} epochs, median; not in {limit:.0f} s: {sum(r.seconds >= limit for r in all_)}")
    return [*compared(found, "random search", 0.5), *compared(found, "Optuna's halving", 0.9)]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--sweep"]:
        sweep(Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
        sys.exit()
    sys.exit(main(run))
