"""The pipeline on a cluster: handed to Kubeflow Pipelines, followed from here, resumed from the step that failed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.compile import cluster_pipeline, compiled
from pipelines.follow import Clock, Follower, Pause
from pipelines.kfp_api import ApiError, PipelinesApi
from pipelines.kfp_tasks import FINAL
from pipelines.pods import check_shared
from pipelines.progress import OnEvent
from pipelines.record import Record
from pipelines.run import new_folder
from seaway.artifacts import read_json
from seaway.config import Config, duration
from seaway.errors import SeawayError
from seaway.release_bundle import publish_pipeline

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # Kubeflow's, of a run


class Left(KeyboardInterrupt):
    """A person stopped following; the run goes on. Its text says how to follow it again."""


class KubeflowRunner:
    """Each step is a pod of Kubeflow Pipelines at the configuration's pipeline.host."""

    def __init__(self, config: Config, *, clock: Clock = time.monotonic, pause: Pause = time.sleep) -> None:
        self._config, self._clock, self._pause = config, clock, pause
        self.api = PipelinesApi(config.pipeline)

    def run(self, pipeline: Any, arguments: dict[str, Any], folder: Path, on_event: OnEvent) -> None:
        """Hand ``pipeline`` in and follow it; of ``arguments`` the configuration is replaced by the pods'."""
        name = f"{self._config.workload.name} {arguments['run']}"
        made = compiled(self._config, pipeline)
        try:
            publish_pipeline(self._config, made.data)
        except SeawayError as error:
            text = f"the compiled pipeline is not kept, so what it releases cannot move on: {error}"
            on_event({"event": "note", "text": text})
        experiment = self.api.experiment()
        self._note(on_event, "", f"handing {name} in", name=name, experiment=experiment)
        parameters = arguments | {"config": made.config.model_dump_json()}
        run_id = self.api.submit(name, experiment, made.spec, parameters)
        text = f"run {arguments['run']} is on the cluster: {self.api.page(run_id)}"
        self._note(on_event, run_id, text, name=name, experiment=experiment, pipeline=made.digest)
        self.follow(Follower(self.api, run_id, folder, on_event))

    def follow(self, follower: Follower) -> None:
        """Until the run has passed; RuntimeError when it has failed, SeawayError when it is cancelled or takes long."""
        settings = self._config.pipeline
        poll, limit = (duration(text).total_seconds() for text in (settings.poll, settings.timeout))
        try:
            state = follower.follow(poll, limit, self._clock, self._pause)
        except TimeoutError:
            raise SeawayError(f"the run takes longer than pipeline.timeout ({settings.timeout}); it goes on") from None
        if state == "CANCELED":
            raise Cancelled("the run was cancelled on the cluster")

    def _note(self, on_event: OnEvent, run_id: str, text: str, **more: str) -> None:
        page = self.api.page(run_id) if run_id else ""
        cluster = {"run_id": run_id, "host": self._config.pipeline.host, "page": page, **more}
        on_event({"event": "note", "text": text, "cluster": cluster})


class Cancelled(SeawayError):
    """Somebody cancelled the run."""


def submit(
    config: Config,
    *,
    on_event: OnEvent,
    runner: KubeflowRunner | None = None,
    more: dict[str, Any] | None = None,
    pipeline: Any = None,
) -> dict[str, Any]:
    """Run the training pipeline (or another one) on the cluster and follow it; the record as of ``run_training``.

    Raises SeawayError for a configuration that pods cannot share, for an API that refuses, and for a failed
    run, with the step's words and how to resume; Left when a person stops following.
    """
    check_shared(config)
    runner = runner or KubeflowRunner(config)
    pipeline = pipeline or cluster_pipeline(config)
    folder = new_folder(config)
    record = Record(folder.name, folder / "run.json", config, {"cluster": {}, **(more or {})})
    with _told(record, config, folder, on_event) as listen:
        runner.run(pipeline, {"run": folder.name}, folder, listen)
    return record.end("passed")


def go_on(
    config: Config, which: str, *, resume: bool, on_event: OnEvent, runner: KubeflowRunner | None = None
) -> dict[str, Any]:
    """Follow a run that is on the cluster; with ``resume``, a failed one first goes on from the failed step.

    ``which``: a run of home/runs, or Kubeflow's id of any run; empty: the newest of this environment. Raises
    SeawayError and Left as ``submit``.
    """
    runner = runner or KubeflowRunner(config)
    folder = _folder(config, which)
    known = read_json(folder / "run.json")["cluster"] if folder else {"run_id": which}
    run_id = known.get("run_id") or _searched(runner.api, known, which)
    run = runner.api.run(run_id)
    if resume and run.state == "SUCCEEDED":
        raise SeawayError(f"run {which or run_id} has passed: there is nothing to resume")
    if folder is None:  # handed in elsewhere
        folder = new_folder(config)
        record = Record(folder.name, folder / "run.json", config)
    else:
        record = Record.of(folder / "run.json", config)
    with _told(record, config, folder, on_event) as listen:
        follower = Follower(runner.api, run_id, folder, listen, record.done)
        page = runner.api.page(run_id)
        cluster = known | {"run_id": run_id, "host": config.pipeline.host, "page": page}
        words = "goes on" if resume and run.state in FINAL else "is followed"
        listen({"event": "note", "text": f"run {folder.name} {words}: {page}", "cluster": cluster})
        if resume and run.state in FINAL:
            follower.remember(run)
            runner.api.retry(run_id)
        runner.follow(follower)
    return record.end("passed")


def _folder(config: Config, which: str) -> Path | None:
    """The folder of the run; None for an id that no record here has."""
    files = sorted((config.home / "runs").glob("*/run.json"), reverse=True)
    known = {file.parent: record for file in files if (record := read_json(file)).get("cluster") is not None}
    for folder, record in known.items():
        if which in (folder.name, record["cluster"].get("run_id")) or (not which and record["env"] == config.env):
            return folder
    if which and not _ID.fullmatch(which):
        raise SeawayError(f"no run {which} of a cluster is in {config.home / 'runs'}, and it is no id of Kubeflow's")
    if not which:
        raise SeawayError(f"{config.home / 'runs'} has no run on the cluster of {config.env}: name its id")
    return None


def _searched(api: PipelinesApi, known: dict[str, Any], which: str) -> str:
    """The id of a run whose handing in was cut short; SeawayError when it never arrived."""
    found = api.find(known["name"], known["experiment"]) if known.get("name") else ""
    if not found:
        raise SeawayError(f"run {which or known.get('name', '')} never arrived at the cluster: start it anew")
    return found


@contextmanager
def _told(record: Record, config: Config, folder: Path, on_event: OnEvent) -> Iterator[Callable[[Any], None]]:
    """A listener that keeps the record too; whatever ends the block becomes words that say how to go on."""
    verb = f"seaway run --env {config.env}"
    resume, follow = f"`{verb} --resume {folder.name}`", f"`{verb} --follow {folder.name}`"
    cluster: dict[str, Any] = {}

    def listen(event: dict[str, Any]) -> None:
        cluster.update(event.get("cluster", {}))
        record.take(event)
        on_event(event)

    try:
        yield listen
    except RuntimeError as error:
        record.end("failed")
        again = (
            f"When that is mended: {resume} goes on from the failed step, with the same code, images and "
            f"configuration;\n  `{verb}` starts a run with new ones, which skips what is unchanged."
        )
        raise SeawayError(record.failure(error, f"{folder / 'logs'}, page: {cluster.get('page')}", again)) from error
    except Cancelled as error:
        record.end("cancelled")
        raise SeawayError(f"{error}; {resume} lets it go on") from None
    except SeawayError as error:
        if not cluster.get("run_id"):
            if isinstance(error, ApiError) and error.made:
                record.end("running")
                raise SeawayError(f"{error}\n  Whether the run arrived is not known: {follow} looks for it") from None
            record.end("failed")
            raise
        record.end("running")
        raise SeawayError(f"{error}\n  The run on the cluster is not touched: {follow}") from None
    except KeyboardInterrupt:
        record.end("running")
        raise Left(f"What is on the cluster goes on. {follow} follows it again.") from None
