"""What became of each trial: its epochs, how it ended, how often it was begun and what it used."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from components.ray.needs import Needs
from components.ray.place import CheckpointError

OBJECTIVE = "objective"


class Ending(Protocol):
    """Decides when a whole sweep is over before its last trial."""

    def must_end(self, records: Sequence[dict[str, Any]]) -> str:
        """The reason, in a few words for a person; "" to go on. ``records``: all trials so far, see ``Records``."""
        ...


@dataclass
class _Seen:
    trial: Any
    epochs: dict[int, dict[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0  # that its process was its own, earlier runs of the sweep included
    since: float = field(default_factory=time.time)  # of what is not in ``seconds`` yet
    failures: int = 0
    over: bool = False
    error: str = ""


class Records:
    """Watches trials; keeps each epoch once, however often a trial was begun.

    ``fault``: why the sweep cannot go on, when a trial could not keep its state; "" otherwise. ``on_epoch`` is called
    after each epoch that was trained, and ``on_failure`` with the record of each trial that failed for good.
    """

    def __init__(
        self,
        needs: Needs,
        on_epoch: Callable[[], None] = lambda: None,
        on_failure: Callable[[dict[str, Any]], None] = lambda record: None,
    ) -> None:
        self._needs, self._on_epoch, self._on_failure = needs, on_epoch, on_failure
        self._seen: dict[int, _Seen] = {}
        self._made: dict[tuple[int, int | None], dict[str, Any]] = {}  # of trials that are over
        self.fault = ""
        self.changed = False  # since somebody set it False

    def reported(self, trial: Any, result: dict[str, Any]) -> None:
        seen, epoch = self._of(trial), result["training_iteration"]
        seen.seconds += result.get("time_this_iter_s", 0.0)
        seen.since = time.time()
        if result.get("error"):
            seen.error = result["error"]
            return
        if epoch in seen.epochs:
            return  # told again by a trial that was begun again
        if result["replayed"]:
            before = seen.epochs.get(epoch - 1)
            seen.seconds += result["seconds"] - (before["seconds"] if before else 0.0)
        seen.epochs[epoch] = result
        self.changed = True
        if not result["replayed"]:
            self._on_epoch()

    def ended(self, trial: Any) -> None:
        seen = self._of(trial)
        failed = begun_again(trial) or trial.num_failures > seen.failures
        if failed:
            seen.failures = trial.num_failures
            seen.seconds += time.time() - seen.since  # what was done since and is lost
            seen.since = time.time()
            error = _error_of(trial)
            cause = getattr(error, "cause", None)
            if isinstance(cause, CheckpointError):
                self.fault = str(cause)  # not the trial's own: another one, or another attempt, would fare no better
                return
            if begun_again(trial):
                return
            seen.error = explained(error)
        if seen.over:
            return
        seen.over, self.changed = True, True
        if failed:
            self._on_failure(self._record(seen, None))

    def records(self, stopped: Mapping[int, int], last: bool = False) -> list[dict[str, Any]]:
        """By index: index, params, epochs (results), objective, status, error, attempts, cpu_seconds, gpu_seconds.

        Status: "finished", "stopped early" (those in ``stopped``, with their epochs up to the one given there),
        "failed", and of a trial that is not over "running", or, once the sweep is (``last``), "ended".
        """
        unfinished = "ended" if last else "running"
        made = []
        for index in sorted(self._seen):
            seen, counted = self._seen[index], stopped.get(index)
            if seen.over and (index, counted) not in self._made:
                self._made[index, counted] = self._record(seen, counted)
            made.append(self._made.get((index, counted)) or self._record(seen, None, unfinished))
        return made

    def _of(self, trial: Any) -> _Seen:
        index = trial.config["index"]
        if index not in self._seen:
            began = getattr(getattr(trial, "run_metadata", None), "start_time", None)
            self._seen[index] = _Seen(trial, since=began or time.time())
        return self._seen[index]

    def _record(self, seen: _Seen, stopped: int | None, unfinished: str = "") -> dict[str, Any]:
        epochs = [seen.epochs[number] for number in sorted(seen.epochs) if stopped is None or number <= stopped]
        error = "" if stopped else seen.error  # what came after the epoch at which it had to stop counts for nobody
        failed = bool(error) or any(e["failed"] for e in epochs) or (seen.over and not epochs)
        status = "failed" if failed else unfinished or ("stopped early" if stopped else "finished")
        return {
            **seen.trial.config,
            "epochs": epochs,
            "objective": float("-inf") if failed or not epochs else epochs[-1][OBJECTIVE],
            "status": status,
            "error": error,
            "attempts": max(1, seen.failures + (not seen.error)),
            "cpu_seconds": seen.seconds * self._needs.cpu,
            "gpu_seconds": seen.seconds * self._needs.gpu,
        }


def begun_again(trial: Any) -> bool:
    """Inside Ray's ``on_trial_error``, which tells of every error: whether the trial is only begun again."""
    return trial.status == "ERROR"  # it is set before a trial is queued anew, and after one has failed for good


def _error_of(trial: Any) -> BaseException:
    """What a trial that has just failed said; Ray brings it to the results' folder only at the end."""
    import ray.cloudpickle

    try:
        return ray.cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    except (OSError, AttributeError, TypeError):
        return RuntimeError("it ended without a word")


def explained(error: BaseException) -> str:
    """One line of what ended a trial: its own exception, or how its process went."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, BaseException):
        return f"{type(cause).__name__}: {cause}".strip()
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:1] + [line for line in lines[1:] if "exit" in line.lower() or "killed" in line.lower()])
