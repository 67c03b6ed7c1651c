"""Following a run on Kubeflow Pipelines: its tasks' states and its pods' logs become the events of a local run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.kfp_api import ApiError, PipelinesApi
from pipelines.kfp_tasks import FINAL, StepState, failed_driver, steps
from pipelines.progress import OnEvent
from seaway.progress import parse

if TYPE_CHECKING:
    from kfp_server_api import V2beta1Run

PATIENCE = 300.0  # seconds that the API may be silent or busy
WAIT = 60.0  # seconds after which a step without a word is said to wait

Clock = Callable[[], float]
Pause = Callable[[float], None]


class Follower:
    """Follows one run. ``done``: steps that were told before. Logs go below ``folder``."""

    def __init__(
        self, api: PipelinesApi, run_id: str, folder: Path, on_event: OnEvent, done: frozenset[str] = frozenset()
    ) -> None:
        self._api, self._run, self._folder, self._on_event = api, run_id, folder, on_event
        self._over = set(done)
        self._told: dict[str, list[str]] = {}  # step -> kinds of its events, in their order
        self._read: dict[str, int] = {}  # pod -> marked lines that became events
        self._old: dict[str, str] = {}  # pod -> its log before the run was resumed
        self._began: dict[str, float] = {}

    def remember(self, run: V2beta1Run) -> None:
        """Logs that are there before the run is resumed belong to what failed, and are not told."""
        for step in steps(run):
            if step.name not in self._over:
                self._old |= {pod: self._api.log(self._run, pod) for pod in step.pods}

    def follow(self, poll: float, timeout: float, clock: Clock, pause: Pause) -> str:
        """The run's final state; TimeoutError after ``timeout`` seconds, RuntimeError when the run has failed."""
        deadline, silent = clock() + timeout, None
        while True:
            try:
                run = self._api.run(self._run)
                silent = None
            except ApiError as error:
                if not error.transient or (silent is not None and clock() - silent > PATIENCE):
                    raise
                if silent is None:
                    silent = clock()
                    self._on_event({"event": "note", "text": f"asking again: {str(error).splitlines()[0]}"})
            else:
                self._take(run, clock())
                if run.state in FINAL:
                    return self._ended(run)
            if clock() > deadline:
                raise TimeoutError
            pause(poll)

    def _take(self, run: V2beta1Run, now: float) -> None:
        for step in steps(run):
            if step.name in self._over or step.state in ("", "RUNTIME_STATE_UNSPECIFIED", "SKIPPED"):
                continue  # what comes after a failed step is listed without a state
            self._listen(step)
            told = self._told.setdefault(step.name, [])
            if step.state == "SUCCEEDED":
                self._finish(step)
            elif step.state == "FAILED" and run.state in FINAL:  # before, it may be of the try before a resume
                self._over.add(step.name)
                if told[-1:] != ["fail"]:
                    self._tell(step.name, {"event": "fail", "text": "no word of why: killed, out of memory, or no pod"})
            elif not told and now - self._began.setdefault(step.name, now) > WAIT:
                self._began[step.name] = float("inf")
                text = f"{step.name}: not a word yet; its pod may wait for a node, an image or a secret"
                self._on_event({"event": "note", "text": text})

    def _finish(self, step: StepState) -> None:
        self._over.add(step.name)
        if "end" in self._told[step.name]:
            return
        if "reason" not in self._told[step.name]:
            self._tell(step.name, {"event": "reason", "reason": "", "skipped": False})
        end = {"event": "end", "status": "done", "reason": "", "summary": {}, "seconds": step.seconds}
        self._tell(step.name, end)

    def _listen(self, step: StepState) -> None:
        """Tell what the step's attempts have said since the last time."""
        for pod in step.pods:
            text = self._api.log(self._run, pod)
            if not text or text == self._old.get(pod):
                continue
            self._keep(pod, text)
            events = [e for e in map(parse, text.splitlines()) if e]  # a line that is not whole yet is none
            for event in events[self._read.get(pod, 0) :]:
                self._tell(step.name, event)
            self._read[pod] = len(events)

    def _tell(self, step: str, event: dict[str, Any]) -> None:
        told = {k: v for k, v in event.items() if k != "outputs"} | {"step": step}  # paths of a pod mean nothing here
        self._told.setdefault(step, []).append(event["event"])
        self._on_event(told)

    def _keep(self, pod: str, text: str) -> None:
        folder = self._folder / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{pod}.log").write_text(text)

    def _ended(self, run: V2beta1Run) -> str:
        if run.state != "FAILED":
            return run.state
        if step := failed_driver(run):
            text = "its pod could not be made (the driver of Kubeflow Pipelines failed)"
            self._tell(step, {"event": "fail", "text": text})
        raise RuntimeError((run.error and run.error.message) or "the run failed")
