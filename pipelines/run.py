"""Running the training pipeline: one Runner, here on this machine; `seaway run` calls run_training."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from pipelines.progress import EventStream, OnEvent, Terminal
from seaway import alive
from seaway.artifacts import read_json, write_json
from seaway.config import Config
from seaway.errors import SeawayError

KEEP_RUNS = 10


class Runner(Protocol):
    """Where a pipeline runs. Steps report by events (seaway.progress); a failed pipeline raises."""

    def run(self, pipeline: Any, arguments: dict[str, Any], folder: Path, on_event: OnEvent) -> None: ...


class LocalRunner:
    """Each step is a process of this machine, run by kfp.local in the present environment."""

    def run(self, pipeline: Any, arguments: dict[str, Any], folder: Path, on_event: OnEvent) -> None:
        """Run ``pipeline`` with everything below ``folder``: artifacts, log, temporary files.

        Raises RuntimeError when a step failed. The steps' processes end with this one, even on kill -9.
        """
        from kfp import local
        from kfp.local.config import LocalExecutionConfig

        temporary = folder / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        lock = folder / "alive"
        variables = {
            alive.OWNER_VARIABLE: str(lock),
            "TMPDIR": str(temporary),  # where KFP writes each step's wrapper
            "RAY_TMPDIR": os.environ.get("RAY_TMPDIR", tempfile.gettempdir()),  # socket paths must stay short
            "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends a sweep; half of one must not count as done
        }
        with (
            (folder / "log").open("a", encoding="utf-8") as log,
            alive.hold(lock),
            _environment(variables),
            contextlib.redirect_stdout(EventStream(log, on_event)),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # resources and display names mean nothing on this machine
            local.init(
                local.SubprocessRunner(use_venv=False),
                pipeline_root=str(folder),
                workspace_root=str(temporary / "workspace"),
                raise_on_error=True,
            )
            try:
                pipeline(**arguments)
            finally:
                LocalExecutionConfig.instance = None
                shutil.rmtree(temporary, ignore_errors=True)


def run_training(
    config: Config, *, explain: bool = False, on_event: OnEvent | None = None, runner: Runner | None = None
) -> dict[str, Any]:
    """Run the training pipeline; steps whose code, parameters and inputs are unchanged are skipped.

    ``on_event`` gets the events reason, progress, end and fail of each step (default: lines on the
    terminal). Returns {run, status, started, seconds, steps: [{name, status, seconds, reason, summary,
    outputs}], outputs: {step: path}}; the same is in home/runs/<run>/run.json as the run goes on.
    Raises SeawayError that names the failed step, its log and how to go on.
    """
    from pipelines.training import training_pipeline

    pipeline = training_pipeline(config.pipeline)
    return run_pipeline(pipeline, config, explain=explain, on_event=on_event, runner=runner)


def run_pipeline(
    pipeline: Any,
    config: Config,
    *,
    explain: bool = False,
    on_event: OnEvent | None = None,
    runner: Runner | None = None,
) -> dict[str, Any]:
    """As run_training, for any pipeline with the parameters ``config`` and ``run``."""
    on_event = on_event or Terminal(sys.stdout, explain)
    runs = config.home / "runs"
    with alive.hold(config.home / "run.lock"):
        run = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")[:-3]
        folder = runs / run
        folder.mkdir(parents=True)
        _prune(runs)
        record = Record(run, folder / "run.json", config)
        runner = runner or LocalRunner()

        def listen(event: dict[str, Any]) -> None:
            record.take(event)
            on_event(event)

        try:
            runner.run(pipeline, {"config": config.model_dump_json(), "run": run}, folder, listen)
        except RuntimeError as error:
            record.end("failed")
            raise SeawayError(record.failure(error, folder)) from error
        except BaseException:
            record.end("interrupted")
            raise
        return record.end("passed")


def newest_run(config: Config) -> dict[str, Any]:
    """The record of the newest run that passed; SeawayError when there is none."""
    for file in sorted((config.home / "runs").glob("*/run.json"), reverse=True):
        record = read_json(file)
        if record["status"] == "passed" and record["workload"] == config.workload.name:
            return record
    raise SeawayError(f"there is no finished run in {config.home}: `seaway run` makes one")


class Record:
    """What is known of a run so far, kept in its file after every event that changes it."""

    def __init__(self, run: str, file: Path, config: Config) -> None:
        self._file, self._clock = file, time.monotonic()
        self._fields = {
            "run": run,
            "workload": config.workload.name,
            "scale": config.scale,
            "status": "running",
            "started": datetime.now(UTC).isoformat(),
        }
        self._steps: dict[str, dict[str, Any]] = {}

    def take(self, event: dict[str, Any]) -> None:
        """Take in a step's event."""
        name, kind = event["step"], event["event"]
        if kind == "reason":
            self._steps[name] = {"name": name, "status": "running", "seconds": 0.0, "reason": event["reason"]}
        elif kind == "end":
            self._steps[name] = {"name": name, **{k: v for k, v in event.items() if k not in ("event", "step")}}
        elif kind == "fail":
            before = self._steps.get(name, {"name": name, "reason": ""})
            self._steps[name] = before | {"status": "failed", "error": event["text"]}
        else:
            return
        self._write()

    def end(self, status: str) -> dict[str, Any]:
        """The final record."""
        self._fields["status"] = status
        return self._write()

    def failure(self, error: Exception, folder: Path) -> str:
        """What to tell a person about the failed run."""
        failed = next((s for s in self._steps.values() if s["status"] in ("failed", "running")), None)
        if failed is None:
            return f"the pipeline failed: {error}\n  log: {folder / 'log'}"
        text = failed.get("error") or "it was killed, or ended without a word (out of memory?)"
        return (
            f"step {failed['name']} failed: {text}\n"
            f"  log: {folder / 'log'}\n"
            "  When that is mended, run the same command again: it goes on here, finished steps are skipped."
        )

    def _write(self) -> dict[str, Any]:
        steps = list(self._steps.values())
        outputs = {s["name"]: s["outputs"]["out"] for s in steps if "outputs" in s}
        record = {**self._fields, "seconds": round(time.monotonic() - self._clock, 3), "steps": steps}
        record["outputs"] = outputs
        write_json(self._file, record)
        return record


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _prune(runs: Path) -> None:
    """Remove the artifacts of all but the newest runs, and what killed runs have left behind."""
    folders = sorted((p for p in runs.iterdir() if p.is_dir()), reverse=True)
    for folder in folders[1:]:
        shutil.rmtree(folder / "tmp", ignore_errors=True)
    for folder in folders[KEEP_RUNS:]:
        shutil.rmtree(folder, ignore_errors=True)
