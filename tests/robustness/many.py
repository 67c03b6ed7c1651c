"""Histories by the hundred, in several processes, and what each is counted by."""

from __future__ import annotations

import multiprocessing
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.robustness.checks import check
from tests.robustness.commits import commits
from tests.robustness.history import History
from tests.robustness.play import play


def summary(history: History) -> dict[str, Any]:
    """What one history is counted by."""
    verdicts = [m.state["phase"] for m in commits(history) if m.state["phase"] != m.old["phase"]]
    last = next((e for e in reversed(history.events) if e["kind"] in ("stored", "deleted")), {})
    return {
        "truth": history.scenario["truth"] + (", labels" if history.scenario["labels"] else ""),
        "calm": not (history.scenario["faults"] or history.scenario["people"] or history.scenario["conditions"]),
        "faults": Counter(e["what"] for e in history.of("fault")) + Counter(history.scenario["conditions"]),
        "verdict": verdicts[-1] if verdicts and last.get("kind") == "stored" else "gone with its object",
        "anew": any(e["what"] in ("new spec",) for e in history.of("fault")),
        "commits": len(commits(history)),
        "killed": len(history.of("killed")),
        "events": len(history.events),
    }


def one(job: tuple[int, str]) -> tuple[int, dict[str, Any], list[str]]:
    seed, out = job
    try:
        history = play(seed)
        violations = check(history)
    except Exception as error:  # a history that cannot be played is a failure too, and has a seed
        return seed, {}, ["the history could not be played:\n" + "".join(traceback.format_exception(error)[-4:])]
    if violations:
        history.save(Path(out) / f"history-{seed}.json", violations)
    return seed, summary(history), violations


def run(seeds: range, jobs: int, out: str) -> Iterator[tuple[int, dict[str, Any], list[str]]]:
    work = [(seed, out) for seed in seeds]
    if jobs == 1:
        yield from map(one, work)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(one, work, chunksize=4)
