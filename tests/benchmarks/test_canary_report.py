"""The benchmark fails when a bar is missed, and writes what it found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.canary import cells, docs, labels, plot, table
from benchmarks.canary.gates import HELD, LEANING, NO_LOOK, PROMOTED, ROLLED_BACK, Ours, Result
from benchmarks.canary.tally import Tally, wilson

ROOT = Path(__file__).parents[2]


def tally(null, shares, runs=10_000, scenario="plain", rate=10, minutes=5, gate=Ours.name, cause=0, **changes):
    chosen = next(c for c in cells.sweep((rate,)) if (c.scenario, c.null) == (scenario, null))
    counts = [round(shares.get(v, 0) * runs) for v in (PROMOTED, ROLLED_BACK)]
    verdict = np.repeat([PROMOTED, ROLLED_BACK, HELD], [*counts, runs - sum(counts)])
    result = Result(verdict, np.full(runs, minutes), np.zeros(runs), np.full(runs, cause))
    return Tally(chosen, gate, result, **changes)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (tally("edge", {PROMOTED: 0.056}), "promoted: plain, 10/s, 1.0 %"),
        (tally("edge", {PROMOTED: 0.06}, scenario="bursts", rate=1), "promoted: bursts, 1/s"),
        (tally("good", {PROMOTED: 0.9, ROLLED_BACK: 0.06}, scenario="counter resets"), "rolled back: counter resets"),
        (tally("good", {ROLLED_BACK: 0.06}, scenario="bursts", cause=LEANING), "rolled back: bursts"),
        (tally("good", {PROMOTED: 0.96}), "promoted of good canaries"),
        (tally("good", {PROMOTED: 0.99}, minutes=21), "promoted in a median of 21"),
        (tally("good", {PROMOTED: 0.99}, scenario="controller restarts", same=9_999), "restarts changed 1 of 10,000"),
    ],
)
def test_a_missed_bar_is_said(found, said):
    assert said in "; ".join(table.missed([found], 0.1))


def test_what_is_within_the_bars_is_not():
    found = [
        tally("edge", {PROMOTED: 0.05, ROLLED_BACK: 0.95}),
        tally("edge", {PROMOTED: 0.9}, gate="Argo, documented"),
        tally("good", {PROMOTED: 0.97, ROLLED_BACK: 0.03}),
        tally("good", {PROMOTED: 0.5}, rate=1),
        tally("edge", {PROMOTED: 0.2}, scenario="groups of 20"),
        tally("good", {ROLLED_BACK: 0.3}, scenario="lost and repeated scrapes", cause=NO_LOOK),
    ]
    assert table.missed(found, 0.1) == []
    assert table.missed(found, 1.1) == ["one decision takes 1.10 ms"]


def test_a_slow_rollback_is_said():
    worst = next(c for c in cells.sweep((10,)) if c.scenario == "plain" and c.truth == 0.03)
    found = tally("worse", {ROLLED_BACK: 1.0}, minutes=7)
    found.cell = worst
    assert "6x canary rolled back in a median of 7" in "; ".join(table.missed([found], 0.1))


def verdicts(canary, feed, confirmed, runs=1000):
    counts = round(confirmed * runs)
    verdict = np.repeat([PROMOTED, ROLLED_BACK], [counts, runs - counts])
    return labels.Verdicts(canary, feed, 1.0, verdict, np.full(runs, 9.0))


def test_a_worse_model_confirmed_too_often_is_said():
    worse, equal, _ = labels.CANARIES
    assert "CONFIRMED" in "; ".join(table.labels_missed([verdicts(worse, labels.FEEDS[0], 0.08)]))
    assert table.labels_missed([verdicts(worse, labels.FEEDS[0], 0.01), verdicts(equal, labels.FEEDS[0], 0.99)]) == []


def test_wilson_is_the_textbook_interval():
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-3)
    assert wilson(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-3)


def test_numbers_go_between_the_markers_and_nowhere_else(tmp_path):
    names = ("run", "promoted", "times", "ours", "restarts")
    page = tmp_path / "page.md"
    page.write_text("head\n" + "".join(f"<!-- {n} -->\nold {n}\n<!-- /{n} -->\nkept {n}\n" for n in names))
    numbers = docs.Numbers([tally("good", {PROMOTED: 0.99})], [], 0.1, 12.0, 20.0, 10_000)
    docs.write(page, numbers, [])
    text = page.read_text()
    assert "old" not in text and all(f"kept {n}" in text for n in names)
    assert "Every bar is met." in text and "99.0 %" in text
    page.write_text("<!-- run -->")
    with pytest.raises(SystemExit, match="no place for run"):
        docs.write(page, numbers, [])


def test_pictures_are_the_same_bytes_for_the_same_numbers(tmp_path):
    from benchmarks.canary.competitors import RIVALS

    found = [
        Tally(cell, gate, tally("good", {PROMOTED: 0.5}, runs=50).result)
        for rate in cells.RATES
        for cell in cells.sweep((rate,))[:4]
        for gate in [Ours.name, *(r.name for r in RIVALS)]
    ]
    late = [verdicts(name, labels.FEEDS[0], 0.2, 50) for name in labels.CANARIES]
    made = [plot.draw(tmp_path / part, found, late) for part in ("a", "b")]
    assert [p.read_bytes() for p in made[0]] == [p.read_bytes() for p in made[1]]
    assert len(made[0]) == 3


def run(*arguments):
    command = [sys.executable, "-m", "benchmarks.canary", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_plain_cells_meet_the_bars():
    done = run("--quick", "--only", "plain")
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-500:]
    assert "canary: ok" in done.stdout


@pytest.mark.slow
def test_every_cell_meets_the_bars_at_one_rate():
    done = run("--quick")
    assert done.returncode == 0, done.stdout[-800:] + done.stderr[-500:]
