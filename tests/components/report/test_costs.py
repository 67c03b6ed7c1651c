"""What the report says of a sweep's trials and of costs."""

from __future__ import annotations

import html
import json
import re
import shutil
from pathlib import Path

import pytest

from components.report.cost_parts import cost, tile
from components.report.records import load
from components.report.step import build
from components.report.sweep_parts import sweep, trials
from seaway.spend import Rates


def records(home: Path, releases=("good", "harmed"), **changes):
    run = json.loads((home / "runs" / "r1" / "run.json").read_text())
    file = home / "runs" / "changed.json"
    file.write_text(json.dumps(run | changes))
    return load(home, [home / "releases" / name for name in releases], file)


def section(page: Path, name: str) -> str:
    text = html.unescape(page.read_text())
    return re.search(rf'<section id="{name}".*?</section>', text, re.S)[0]


def test_the_sweep_is_told_by_trial_by_parameter_and_by_how_it_ended(page: Path) -> None:
    text = section(page, "sweep")
    assert "9 trials" in text and text.count('<figure><svg viewBox="0 0 300') == 4, "a drawing for each parameter"
    for words in ("stopped early", "Trials that failed, 1", "ValueError: <script>", "no trial in the slot", "together"):
        assert words in text, words
    assert "Stopping early has saved about" in text


def test_use_and_cost_by_status_add_up(workspace: Path) -> None:
    found = sweep(records(workspace))
    by = {b["status"]: b for b in found["by"]}
    assert list(by) == ["finished", "stopped early", "failed"] and sum(b["trials"] for b in by.values()) == 9
    assert by["failed"]["usd"] == pytest.approx(2.5 * 0.01) and by["failed"]["epochs"] == 0
    epochs = sum(b["epochs"] for b in by.values())
    assert found["hours"] == pytest.approx((0.8 * epochs + 2.5) / 3600)
    assert found["total"] == f"{(0.8 * epochs + 2.5) * 0.01:.2f} USD"
    # a stopped trial's epoch costs 0.8 cents; each would have gone on to 20
    left = by["stopped early"]["trials"] * 20 - by["stopped early"]["epochs"]
    assert found["saved"].endswith(f"{left * 0.008:.2f} USD")
    assert found["slices"]["keys"][0]["said"] == f"epochs {0.7 * epochs:.0f} s"


def test_slots_are_not_told_where_an_earlier_run_did_a_part(workspace: Path) -> None:
    run = json.loads((workspace / "runs" / "r1" / "run.json").read_text())
    for step in run["steps"]:
        if step["name"] == "tune":
            step["summary"]["epochs_kept"] = 5
    assert sweep(records(workspace, steps=run["steps"]))["slices"] is None


def test_a_trial_whose_metric_should_be_low_is_told_by_its_lowest() -> None:
    rows = [
        {"trial": 0, "epoch": e, "brier": v, "seconds": e, "status": "finished"}
        for e, v in ((1, 0.3), (2, 0.2), (3, 0.25))
    ]
    (row,) = trials(rows, [], "brier", Rates(3.6))
    assert row["brier"] == 0.2 and row["epochs"] == 3
    assert row["usd"] == pytest.approx(0.003), "an older table: a core as long as its epochs took"


def test_costs_are_told_by_step_against_the_estimate_and_for_the_model(page: Path, workspace: Path) -> None:
    text = section(page, "cost")
    assert "This run cost 2.66 USD; 2.50 USD were estimated before it" in text
    assert "cost 2.91 USD" in text, "with the work of a step that was skipped"
    assert "Version 2 was promoted at 2.66 USD" in text and "in 1 run or sweep on record here" in text
    assert "cost of this model" in section(page, "headline")


def test_what_was_spent_since_the_promotion_before_is_the_models(workspace: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(workspace, home)
    for run, usd in (("q0", 9.0), ("q1", 8.0), ("q2", 1.0), ("q2-tune", 0.5), ("r2", 7.0)):
        folder = home / "runs" / run
        folder.mkdir()
        file = "sweep.json" if run.endswith("tune") else "run.json"
        (folder / file).write_text(json.dumps({"run": run, "usd": usd}))
    entry = {"what": "promoted", "lineage": {"run": "q1"}}
    (home / "ledger.jsonl").write_text(json.dumps({"seq": 1, "time": "t", "hash": "h", "entry": entry}) + "\n")
    model = cost(records(home))["model"]
    assert model == {"versions": ["2"], "runs": 3, "since": "q1", "usd": "4.16 USD"}  # q2, its sweep, and this one
    assert cost(records(home, releases=("harmed",)))["model"] is None, "nothing was promoted"


def test_without_a_price_there_are_hours(workspace: Path, tmp_path: Path) -> None:
    free = records(workspace, rates=Rates().as_record())
    assert tile(free)[0]["value"].endswith("core-hours")
    run = tmp_path / "run.json"
    run.write_text(json.dumps(free.run))
    page = build(workspace, [], run, tmp_path / "r.html")
    assert "No price is set" in section(page, "cost") and "USD" not in section(page, "cost") + section(page, "sweep")


def test_an_ended_sweep_and_a_dashboard_are_told(workspace: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(workspace, home)
    best = next(home.glob("cache/tune/*/best.json"))
    best.write_text(
        json.dumps(json.loads(best.read_text()) | {"ended": "budget.limit is 1.00 USD: 0.99 USD are spent"})
    )
    run = json.loads((home / "runs" / "r1" / "run.json").read_text().replace(str(workspace), str(home)))
    (home / "run.json").write_text(json.dumps(run | {"dashboard": "http://ray.example:8265"}))
    text = section(build(home, [], home / "run.json", home / "r.html"), "sweep")
    assert "Ended before its last trial. budget.limit is 1.00 USD" in text
    assert '<a href="http://ray.example:8265"' in text


def test_an_older_record_has_no_part_of_costs(workspace: Path) -> None:
    run = json.loads((workspace / "runs" / "r1" / "run.json").read_text())
    steps = [{k: v for k, v in s.items() if "usd" not in k} for s in run["steps"]]
    old = records(workspace, steps=steps)
    with pytest.raises(Exception, match="does not say what its steps have used"):
        cost(old)
