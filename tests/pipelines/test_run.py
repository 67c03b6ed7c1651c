"""The local runner with real steps: skipping, explaining, failing, and being killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipelines.progress import EventStream, Terminal, one_line
from pipelines.run import run_pipeline
from seaway import alive, progress
from seaway.artifacts import read_json
from seaway.errors import SeawayError


def go(small, folder, lines=None):
    events = []
    record = run_pipeline(small.pipeline, small.config_of(folder), on_event=events.append)
    if lines is not None:
        lines += [Terminal(explain=True).line(event) for event in events]
    return record


def status(record):
    return {step["name"]: step["status"] for step in record["steps"]}


def reasons(record):
    return {step["name"]: step["reason"] for step in record["steps"]}


@pytest.fixture
def folder(small, tmp_path):
    small.write_workload(tmp_path)
    return tmp_path


def test_steps_run_once_then_only_what_has_changed(small, folder):
    first = go(small, folder)
    assert status(first) == dict.fromkeys(("ingest", "validate", "features"), "done")
    assert set(reasons(first).values()) == {"first run"}
    assert (Path(first["outputs"]["features"]) / "features.parquet").exists()
    assert read_json(folder / "home" / "runs" / first["run"] / "run.json") == json.loads(json.dumps(first, default=str))

    lines = []
    (folder / "events.csv").touch()  # the same bytes under a new date are no change
    again = go(small, folder, lines)
    assert status(again) == dict.fromkeys(("ingest", "validate", "features"), "skipped")
    assert again["steps"][2]["summary"] == first["steps"][2]["summary"]
    assert (Path(again["outputs"]["features"]) / "features.parquet").exists()
    assert any("skipped (unchanged)" in line for line in lines)

    # a parameter that one step reads, and the workload's own code, which another imports by its name
    (folder / "workload.yaml").write_text(small.WORKLOAD.replace("quarantine_limit: 0.2", "quarantine_limit: 0.3"))
    (folder / "spec.py").write_text(small.SPEC.replace("quantum=0.5", "quantum=0.25"))
    changed = go(small, folder)
    assert status(changed) == {"ingest": "skipped", "validate": "done", "features": "done"}
    assert reasons(changed)["validate"] == "parameter changed: workload.quarantine_limit 0.2 -> 0.3"
    assert reasons(changed)["features"] == "code changed: spec.py"  # not its input: validate's bytes are the same

    # other bytes in the source
    small.write_workload(folder, rows=39)
    changed = go(small, folder)
    assert reasons(changed)["ingest"].startswith("parameter changed: content of events: events.csv")
    assert "input changed: raw" in reasons(changed)["validate"]


def test_a_failed_step_is_named_with_its_text_and_log_and_keeps_its_files(small, folder):
    small.write_workload(folder, bad_rows=20)
    with pytest.raises(SeawayError, match=r"step validate failed: (?s:.*)run the same command again") as failed:
        go(small, folder)
    run = max((folder / "home" / "runs").iterdir())
    assert str(run / "log") in str(failed.value)
    record = read_json(run / "run.json")
    assert record["status"] == "failed"
    assert status(record) == {"ingest": "done", "validate": "failed"}
    assert list(run.glob("*/validate/quarantine")), "the quarantine file is there to look at"

    small.write_workload(folder)
    assert status(go(small, folder))["validate"] == "done"


def test_an_unexpected_error_is_reported_too(small, folder):
    (folder / "spec.py").write_text("raise ZeroDivisionError('in the spec')")
    with pytest.raises(SeawayError, match="step features failed: ZeroDivisionError: in the spec"):
        go(small, folder)
    log = (max((folder / "home" / "runs").iterdir()) / "log").read_text()
    assert "Traceback" in log


def test_kill_9_leaves_no_process_and_the_next_run_goes_on_at_the_killed_step(small, folder):
    (folder / "wait").touch()
    command = [sys.executable, small.__file__, str(folder)]
    runner = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not (folder / "imported").exists():
            assert time.monotonic() < deadline
            assert runner.poll() is None
            time.sleep(0.05)
        below = psutil.Process(runner.pid).children(recursive=True)
        assert any("executor_main" in " ".join(p.cmdline()) for p in below)
        with pytest.raises(SeawayError, match=f"another run is using .* \\(process {runner.pid}\\)"):
            go(small, folder)
    finally:
        runner.send_signal(signal.SIGKILL)
        runner.wait()
    _, left = psutil.wait_procs(below, timeout=10)
    assert not left

    (folder / "wait").unlink()
    record = go(small, folder)
    assert status(record) == {"ingest": "skipped", "validate": "skipped", "features": "done"}
    assert "did not finish" in reasons(record)["features"]


def test_end_with_owner_ends_the_descendants_too(tmp_path):
    code = (
        "import subprocess, sys, time; from seaway import alive; alive.end_with_owner();"
        "p = subprocess.Popen(['sleep', '60'], start_new_session=True); print(p.pid, flush=True); time.sleep(60)"
    )
    with alive.hold(tmp_path / "lock"):
        environment = {**os.environ, alive.OWNER_VARIABLE: str(tmp_path / "lock")}
        worker = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        grandchild = psutil.Process(int(worker.stdout.readline()))
        time.sleep(0.3)
        assert worker.poll() is None, "the worker lives as long as its owner holds the lock"
    assert worker.wait(timeout=10) == -signal.SIGKILL
    psutil.wait_procs([grandchild], timeout=10)
    assert not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE


def test_marked_lines_become_events_and_everything_is_logged(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(progress.STEP_VARIABLE, "tune")
    progress.say("3 of 8", sweep={"trials": 8})
    progress.say("4 of 8")
    printed = capsys.readouterr().out
    events = []
    with (tmp_path / "log").open("w") as log:
        stream = EventStream(log, events.append)
        for part in ("    ", "noise @sea", "way\n    ", printed, "@seaway {not json}\n"):
            stream.write(part)
    assert [(e["step"], e["text"], e.get("sweep")) for e in events] == [
        ("tune", "3 of 8", {"trials": 8}), ("tune", "4 of 8", None)]  # fmt: skip
    assert "noise @seaway" in (tmp_path / "log").read_text()


def test_outside_a_pipeline_progress_goes_to_standard_error(monkeypatch, capsys):
    monkeypatch.delenv(progress.STEP_VARIABLE, raising=False)
    progress.say("3 of 8")
    assert capsys.readouterr() == ("", "3 of 8\n")


def test_a_summary_fits_in_one_line():
    summary = {"rows": 12345, "hash": "a" * 64, "loss": 0.123456, "test": {"positives": 3}, "views": ["a", "b"]}
    assert one_line(summary) == "rows 12,345, loss 0.1235, test: positives 3, views a b"
    assert len(one_line({f"name {n}": n for n in range(99)})) <= 110
