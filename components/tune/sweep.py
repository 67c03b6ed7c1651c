"""Running the trials: Ray Tune around our trial, searcher, scheduler and the records of what became of them."""

from __future__ import annotations

import errno
import logging
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.search import ConcurrencyLimiter

from components.ray.local import results_folder
from components.ray.needs import Needs, gpus_here
from components.ray.place import Place, room, write_beside
from components.train.loop import Rows
from components.tune.budget import within
from components.tune.order import Deciding, trials
from components.tune.progress import Progress
from components.tune.records import Ending, Records
from components.tune.scheduling import scheduler
from components.tune.searching import searcher
from components.tune.snapshot import Sight
from components.tune.stopping import stopping
from components.tune.trial import SweepTrial, failure_file
from seaway.artifacts import write_json
from seaway.config import Config
from seaway.errors import SeawayError

ASK_S = 1.0  # an ending that depends on the clock is asked so often


@dataclass(frozen=True)
class Hooks:
    """What the process around a sweep wants to know and to say.

    ``on_begun`` is called once the sweep's folder is this process's alone, ``on_epoch`` after each epoch that was
    trained, ``lost`` with what of a Ray of our own has ended; ``endings`` are asked beside the sweep's own; once
    ``stopped`` is set the sweep ends.
    """

    on_begun: Callable[[], None] = lambda: None
    on_epoch: Callable[[], None] = lambda: None
    lost: Callable[[str], None] | None = None
    endings: tuple[Ending, ...] = ()
    stopped: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Outcome:
    """``trials``: see Records.records. ``ended``: why the sweep is over early; ``fault``: why it must be."""

    trials: list[dict[str, Any]]
    ended: str = ""
    fault: str = ""


class EndsEarly(tune.Stopper):
    """Ray asks after each event whether all is over."""

    def __init__(
        self,
        seen: Records,
        stopped: Mapping[int, int],
        endings: Sequence[Ending],
        wanted: threading.Event | None = None,
    ) -> None:
        self._seen, self._stopped, self._endings, self._wanted = seen, stopped, endings, wanted
        self._asked, self.reason = time.monotonic(), ""

    def __reduce__(self) -> tuple[Any, ...]:
        return (EndsEarly, (Records(Needs(0, 0)), {}, ()))  # Ray writes a copy to disk

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        now = time.monotonic()
        if not self.reason and (self._seen.changed or now - self._asked > ASK_S):
            self._seen.changed, self._asked = False, now
            records = self._seen.records(self._stopped) if self._endings else []
            self.reason = next(filter(None, (ending.must_end(records) for ending in self._endings)), "")
        return bool(self.reason or self._seen.fault or (self._wanted and self._wanted.is_set()))


def run_trials(
    config: Config,
    job: dict[str, Any],
    space: dict[str, Any],
    slots: int,
    device: str,
    train: Rows,
    valid: Rows,
    rules: Deciding,
    ray: AbstractContextManager[Any],
    place: Place | None = None,
    hooks: Hooks | None = None,
    first: Sequence[dict[str, Any]] = (),
) -> Outcome:
    """Run the sweep's trials, ``slots`` at a time, on the Ray that ``ray`` opens: our own, or that of ``place``.

    ``rules``: for the slots that the sweep was begun with, on which its order rests. ``first``: points that are tried
    before those that the searcher finds.
    """
    hooks = hooks or Hooks()
    sweep, needs = config.workload.sweep, Needs.of(config.workload.sweep.resources)
    arrays = {
        "train": train.features,
        "train_labels": train.labels,
        "valid": valid.features,
        "valid_labels": valid.labels,
    }
    gpus = gpus_here(config) if device == "cuda" and not place else 0
    share = _share(needs, slots, gpus, place)

    def failed(record: dict[str, Any]) -> None:
        """Later trials are suggested knowing it, so whoever goes on with the sweep must know it too."""
        file = failure_file(Path(job["folder"]), record["index"], record["params"])
        write_json(file, {key: record[key] for key in ("error", "attempts", "cpu_seconds", "gpu_seconds")})
        write_beside(job["remote"], file)

    progress = Progress(Sight.of(config, slots), place.stream if place else None)
    seen = Records(Needs(needs.cpu, needs.memory, share.get("gpu", 0.0)), hooks.on_epoch, failed)
    endings = (progress, *within(config), *stopping(sweep, Path(job["folder"])), *hooks.endings)
    ends = EndsEarly(seen, rules.stopped, endings, hooks.stopped)
    with progress, ray:
        for name in ("ray", "ray.tune", "ray.train"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(SweepTrial, job=job, arrays=arrays), share),
            tune_config=tune.TuneConfig(
                num_samples=trials(sweep),
                search_alg=ConcurrencyLimiter(searcher(sweep, space, rules, first), max_concurrent=slots),
                scheduler=scheduler(rules, (seen,), slots),
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=str(results_folder()),
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                failure_config=tune.FailureConfig(max_failures=sweep.retries),
                stop=ends,
                verbose=0,
            ),
        )
        try:
            tuner.fit()
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            at = results_folder()
            raise SeawayError(f"Ray's own files find no room in {at}{room(at)}: make some, and go on") from error
        finally:
            shutil.rmtree(results_folder(), ignore_errors=True)
            progress.must_end(seen.records(rules.stopped, last=True))  # how all has ended
    return Outcome(seen.records(rules.stopped, last=True), ends.reason, seen.fault)


def _share(needs: Needs, slots: int, gpus: int, place: Place | None) -> dict[str, float]:
    """What Ray sets aside for a trial. GPUs that nobody asked for by number are shared by all."""
    share: dict[str, float] = {"cpu": needs.cpu}
    if needs.gpu:
        share["gpu"] = needs.gpu
    elif place and place.gpu:
        share["gpu"] = 1
    elif gpus:
        share["gpu"] = min(1.0, gpus / slots)
    if place and place.memory:
        share["memory"] = needs.memory
    return share
