"""The whole train, small, as a user runs it: real pipeline, sweep, store, registry, servers and proxy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from seaway.config import project_root

SEAWAY = str(Path(sys.executable).parent / "seaway")
# so few rows prove neither a small margin of the decisions nor a small difference from the baseline
SMALL = ["--set", "workload.gates.max_regression=0.3", "--set", "workload.gates.max_segment_regression=0.5",
         "--set", "workload.sweep.max_epochs=6", "--set", "workload.sweep.trials=3",
         "--set", "release.guardrails.decisions_up.margin=0.06",
         "--set", "release.guardrails.decisions_down.margin=0.06"]  # fmt: skip


def seaway(*arguments: str, home: Path, expect: int = 0) -> str:
    ended = subprocess.run(
        [SEAWAY, *arguments, "--home", str(home)], cwd=project_root(), capture_output=True, text=True, timeout=600
    )
    assert ended.returncode == expect, f"{ended.stdout[-3000:]}\n{ended.stderr[-3000:]}"
    return ended.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("train") / "home"


@pytest.fixture(scope="module")
def first(home) -> str:
    assert "best: trial" in seaway("tune", "--scale", "tiny", *SMALL, home=home)
    return seaway("demo", "--scale", "tiny", *SMALL, home=home)


@pytest.mark.timeout(600)
def test_the_demo_promotes_the_good_and_rolls_back_the_harmed(first, home):
    records = {p.parent.name: json.loads(p.read_text()) for p in home.glob("releases/*/record.json")}
    good, bad = records["card-fraud-2"], records["card-fraud-2-harmed"]
    assert good["verdict"] == "promoted"
    assert bad["verdict"] == "rolled back"
    for record, answers in ((good, 300), (bad, 20)):
        assert record["parity"]["checked"] > answers
        assert record["parity"]["feature_differences"] == 0
        assert record["parity"]["max_score_difference"] <= 1e-6
    assert good["traffic"]["failed"] == 0
    assert bad["traffic"]["failed"] > 0
    assert set(bad["traffic"]["by_predictor"]) == {"v2", "v2-harmed"}  # failed answers name theirs too
    assert "ui --backend-store-uri" in first
    assert "make demo DATA=" in first
    assert list((home / "reports").glob("*.html"))


@pytest.mark.timeout(300)
def test_a_second_demo_skips_what_is_unchanged(first, home):
    text = seaway("demo", "--scale", "tiny", *SMALL, "--explain", home=home)
    assert text.count("skipped (unchanged)") == 10, text
    assert text.count("was decided before") == 2


@pytest.mark.timeout(300)
def test_the_champion_is_served_and_explains_itself(first, home):
    server = subprocess.Popen(
        [SEAWAY, "serve", "--home", str(home)], cwd=project_root(), stdout=subprocess.PIPE, text=True
    )
    try:
        line = next(text for text in server.stdout if "answers at" in text or server.poll() is not None)
        assert "version 2 of card-fraud" in line
        children = psutil.Process(server.pid).children(recursive=True)
        request = ["CUSTOMER_ID=1", "TERMINAL_ID=2", "TX_AMOUNT=950.25", "TX_DATETIME=2018-07-10T04:00:00"]
        answer = json.loads(seaway("predict", *request, "--explain", home=home))
        assert 0 <= answer["probability"] <= 1
        assert answer["model_version"] == "2"
        assert answer["features"][0][0] == 950.25
        assert answer["reasons"]
        assert seaway("predict", *request[:3], home=home, expect=2) == ""
    finally:
        server.terminate()
        assert server.wait(timeout=30) == 0
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


@pytest.mark.timeout(120)
def test_history_tells_both_decisions(first, home):
    text = seaway("release", "history", home=home)
    assert "promoted" in text
    assert "rolled back" in text


@pytest.mark.timeout(600)
@pytest.mark.slow
def test_another_workload_takes_the_same_train(tmp_path):
    file = project_root() / "tests" / "workloads" / "machine_failure" / "workload.yaml"
    text = seaway(
        "demo", "--workload", str(file), "--scale", "tiny", "--set", "workload.sweep.trials=2",
        *SMALL[:4], "--set", "release.guardrails.decisions_up.margin=0.25",
        "--set", "release.guardrails.decisions_down.margin=0.25", home=tmp_path / "home",
    )  # fmt: skip
    assert "promoted" in text
    assert "rolled back" in text
