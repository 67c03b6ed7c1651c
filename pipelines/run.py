"""Running the training pipeline on this machine or on a cluster; `seaway run` calls run_training."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from components.slices.column import check_column
from pipelines.progress import EventStream, OnEvent, shown
from pipelines.record import Record
from seaway import alive
from seaway.artifacts import read_json
from seaway.config import Config
from seaway.errors import SeawayError
from seaway.hooks import resolve

KEEP_RUNS = 10


class Runner(Protocol):
    """Where a pipeline runs. Steps report by events (seaway.progress); a failed pipeline raises RuntimeError."""

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
    config: Config,
    *,
    explain: bool = False,
    on_event: OnEvent | None = None,
    runner: Runner | None = None,
    more: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Run the training pipeline where the configuration says; unchanged steps are skipped.

    ``on_event`` gets the events reason, progress, end and fail of each step (default: what is shown on the
    terminal). Returns {run, status, started, seconds, usd, steps: [{name, status, seconds, usd, reason, summary,
    outputs}], outputs: {step: path}}, and ``more``; the same is in home/runs/<run>/run.json as the run goes on.
    Raises SeawayError that names the failed step, its log and how to go on.
    """
    from pipelines.training import training_pipeline

    if runner is None and config.pipeline.host:
        from pipelines.cluster import submit

        with shown(on_event, explain) as listener:
            return submit(config, on_event=listener, more=more)
    from pipelines.compile import kept

    if config.workload.slices:  # before hours of a sweep
        check_column(config.workload, resolve(config.workload.features, config.root))
    pipeline = training_pipeline(config.pipeline)
    made = kept(config, pipeline)
    return run_pipeline(pipeline, made, explain=explain, on_event=on_event, runner=runner, more=more)


def run_pipeline(
    pipeline: Any,
    config: Config,
    *,
    explain: bool = False,
    on_event: OnEvent | None = None,
    runner: Runner | None = None,
    more: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """As run_training, for any pipeline with the parameters ``config`` and ``run``."""
    with alive.hold(config.home / "run.lock"), shown(on_event, explain) as listener:
        folder = new_folder(config)
        _prune(folder.parent)
        record = Record(folder.name, folder / "run.json", config, more)
        runner = runner or LocalRunner()

        def listen(event: dict[str, Any]) -> None:
            record.take(event)
            listener(event)

        again = "When that is mended, run the same command again: it goes on here, finished steps are skipped."
        try:
            arguments = {"config": config.model_dump_json(), "run": folder.name}
            runner.run(pipeline, arguments, folder, listen)
        except RuntimeError as error:
            record.end("failed")
            raise SeawayError(record.failure(error, str(folder / "log"), again)) from error
        except BaseException:
            record.end("interrupted")
            raise
        return record.end("passed")


def new_folder(config: Config) -> Path:
    """An empty folder home/runs/<run> for a run that begins now; its name is the run's."""
    folder = config.home / "runs" / datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")[:-3]
    folder.mkdir(parents=True)
    return folder


def newest_run(config: Config, on_event: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """The record of the newest training run on this machine that passed; SeawayError when there is none.

    ``on_event`` gets a line where a newer one has failed.
    """
    failed = ""
    for file in sorted((config.home / "runs").glob("*/run.json"), reverse=True):
        record = read_json(file)
        if any(step["name"] == "score" for step in record["steps"]):
            continue
        if "cluster" in record or record["workload"] != config.workload.name:
            continue
        if record["status"] == "passed":
            if failed:
                on_event(f"the newest run {failed} failed; this is about {record['run']}, the newest that passed")
            return record
        failed = failed or (str(record["run"]) if record["status"] == "failed" else "")
    raise SeawayError(f"there is no finished run of {config.workload.name} in {config.home}: `seaway run` makes one")


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
