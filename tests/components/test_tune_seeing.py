"""What there is to see of a running sweep, and its end at the budget. No Ray."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time

import pytest

from components.steps import within_budget
from components.tune import progress as told
from components.tune.budget import Within, held, within
from components.tune.cluster import _until
from components.tune.progress import Progress
from components.tune.snapshot import POINTS, Sight, line, snapshot, thinned
from seaway import progress
from seaway.artifacts import record_hash, write_json
from seaway.config import StepResources, load
from seaway.spend import Rates

ONE = StepResources(cpu="1", memory="1Gi")
DOLLAR_A_SECOND = Rates(cpu=3600.0, source="test")


def trial(index, values, status="running", replayed=0, seconds=None, metric="average_precision", **more):
    """A record as of components.tune.records: an epoch a value, a second each."""
    epochs = [
        {"epoch": n + 1, metric: v, "objective": max(values[: n + 1]), "seconds": n + 1.0, "replayed": n < replayed,
         "failed": False}
        for n, v in enumerate(values)
    ]  # fmt: skip
    return {
        "index": index, "params": {"width": 8}, "epochs": epochs, "status": status, "error": "", "attempts": 1,
        "objective": max(values) if values and status != "failed" else float("-inf"),
        "cpu_seconds": float(len(values)) if seconds is None else seconds, "gpu_seconds": 0.0, **more,
    }  # fmt: skip


RECORDS = [
    trial(0, [0.3, 0.5, 0.6, 0.55], "finished"),
    trial(1, [0.2, 0.2], "stopped early"),
    trial(2, [], "failed", error="ValueError: no", attempts=3),
    trial(3, [0.4, 0.7], replayed=1),
]


def sight(**more):
    return Sight(**{"trials": 8, "metric": "average_precision", "max_epochs": 4, "slots": 2, **more})


def test_a_snapshot_counts_trials_by_how_they_ended_and_names_the_best():
    seen = snapshot(sight(rates=DOLLAR_A_SECOND, limit=20.0), RECORDS, [0.3, 0.5, 0.7], 12.0, 7.0)
    assert (seen["finished"], seen["stopped"], seen["failed"], len(seen["running"])) == (1, 1, 1, 1)
    assert (seen["epochs"], seen["kept"]) == (7, 1)
    assert seen["best"] == {"trial": 3, "value": 0.7, "params": {"width": 8}}
    assert seen["running"][0] == {"trial": 3, "status": "running", "epoch": 2, "value": 0.7, "curve": [0.4, 0.7],
                                  "usd": 2.0, "attempts": 1, "error": ""}  # fmt: skip
    assert seen["usd"] == pytest.approx(8.0) and seen["cpu_seconds"] == 8.0
    assert json.loads(json.dumps(seen)) == seen


def test_time_left_is_of_the_epochs_that_are_left_at_this_pace():
    # three are over, with (4 + 2 + 0) / 3 epochs each; four are queued with 2 each, the running one has had its 2
    seen = snapshot(sight(), RECORDS, [0.7], 12.0, 7.0)
    assert seen["left"] == pytest.approx(4 * 2 * 7.0 / 7) and seen["sure"]
    early = snapshot(sight(), [trial(0, [0.3])], [0.3], 5.0, 2.0)
    assert early["left"] == pytest.approx((7 * 4 + 3) * 2.0) and not early["sure"]
    assert snapshot(sight(), [], [], 5.0, 0.0)["left"] is None


def test_a_metric_that_should_be_low_is_told_as_it_reads():
    record = trial(0, [-0.4, -0.3], metric="brier")
    seen = snapshot(sight(metric="brier"), [record], [0.4, 0.3], 2.0, 2.0)
    assert seen["best"]["value"] == 0.3 and seen["running"][0]["value"] == 0.3


def test_one_line_says_it_all():
    words = line(snapshot(sight(rates=DOLLAR_A_SECOND, limit=20.0), RECORDS, [0.7], 12.0, 7.0))
    assert words == (
        "sweep: 3/8 trials (1 stopped early, 1 failed), 1 running, 7 epochs and 1 kept from before; "
        "best average_precision 0.7000 (trial 3); 8.00 USD of 20.00 USD; 12 s, about 8 s left"
    )
    assert line(snapshot(sight(), [], [], 3.0, 0.0)) == "sweep: starting Ray for 8 trials; 3 s"
    assert "USD" not in line(snapshot(sight(), RECORDS, [0.7], 12.0, 7.0))


def test_long_curves_keep_their_ends():
    curve = thinned([n / 1000 for n in range(1000)])
    assert len(curve) == POINTS and curve[0] == 0 and curve[-1] == 0.999


def test_progress_tells_a_line_to_a_stream_and_a_snapshot_to_a_run(monkeypatch, capsys):
    monkeypatch.setattr(told, "PLAIN_SECONDS", 0.02)
    stream = io.StringIO()
    with Progress(sight(), stream) as shown:
        assert shown.must_end(RECORDS) == ""
        time.sleep(0.1)
    lines = stream.getvalue().splitlines()
    assert len(lines) > 2 and "3/8 trials" in lines[-1] and "\r" not in stream.getvalue()
    monkeypatch.setenv(progress.STEP_VARIABLE, "tune")
    with Progress(sight()) as shown:
        shown.must_end(RECORDS)
    event = progress.parse(capsys.readouterr().out.splitlines()[-1])
    assert event["event"] == "progress" and event["sweep"]["best"]["trial"] == 3 and "3/8 trials" in event["text"]


def test_a_sweep_ends_before_its_next_epochs_would_cost_more_than_the_limit():
    # 8 USD are spent; the running trial's epochs cost 1 USD each
    assert Within(9.0, DOLLAR_A_SECOND, ONE).must_end(RECORDS) == ""
    assert Within(8.9, DOLLAR_A_SECOND, ONE).must_end(RECORDS) == (
        "budget.limit is 8.90 USD: 8.00 USD are spent, and the next epochs of the running trials cost 1.00 USD more"
    )
    assert Within(7.0, DOLLAR_A_SECOND, ONE).must_end(RECORDS) == "budget.limit is 7.00 USD: 8.00 USD are spent"


def test_a_trial_without_an_epoch_is_expected_to_cost_what_the_dearest_does():
    begun = [*RECORDS, trial(4, [])]
    assert Within(9.9, DOLLAR_A_SECOND, ONE).must_end(begun)
    assert not Within(10.0, DOLLAR_A_SECOND, ONE).must_end(begun)


def test_a_cluster_that_is_held_costs_its_time_whatever_trials_use():
    now = [0.0]
    ending = Within(100.0, DOLLAR_A_SECOND, ONE, held=3600.0, clock=lambda: now[0])
    assert ending.must_end(RECORDS) == ""
    now[0] = 97.5  # and one second was of an earlier run, before this cluster
    assert ending.must_end(RECORDS) == ""
    now[0] = 98.5
    assert "99.50 USD are spent" in ending.must_end(RECORDS)


def test_what_a_rayjob_holds_is_its_head_and_its_workers():
    ray = {"substrate": "kuberay", "workers": 3, "worker": {"cpu": "2", "gpu": 1}, "head": {"cpu": "1"}}
    config = load(overrides={"ray": ray})
    assert held(config, Rates(1.0, 10.0)) == pytest.approx(1.0 + 3 * 12.0)
    assert held(load(), Rates(1.0, 10.0)) == 0


def test_without_limit_or_prices_nothing_ends():
    assert within(load()) == within(load(overrides={"budget": {"limit": 1.0}})) == ()
    assert len(within(load(overrides={"budget": {"limit": 1.0, "cpu_hour": 0.1}}))) == 1


def test_a_result_that_the_budget_ended_holds_as_long_as_the_limit_is_the_same(tmp_path):
    def gone(limit, ended):
        write_json(tmp_path / "best.json", {"ended": ended})
        return within_budget(load(overrides={"budget": {"limit": limit}}), {"out": tmp_path})

    ended = Within(7.0, DOLLAR_A_SECOND, ONE).must_end(RECORDS)
    assert gone(7.0, ended) == "" and gone(None, "") == "" and gone(1.0, "") == ""
    assert "another now" in gone(9.0, ended) and "another now" in gone(None, ended)


def test_a_sweep_elsewhere_with_another_limit_is_another_job():
    def job(**more):
        return record_hash(_until(load(overrides={"budget": {"cpu_hour": 1.0, **more}})))

    assert job() == job() and len({job(), job(limit=1.0), job(limit=2.0)}) == 3


def test_what_a_terminal_needs_imports_nothing_heavy():
    code = (
        "import sys, pipelines.live, pipelines.estimate, pipelines.record, seaway.cli.agree; "
        "print([m for m in ('ray', 'torch', 'optuna', 'mlflow', 'feast', 'onnxruntime') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
