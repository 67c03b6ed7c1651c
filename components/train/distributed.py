"""Training by several workers of Ray Train; the loop and its file of state are those of one.

Worker 0 writes the state after each epoch to home, and to object storage where there is one. Workers that were lost
are started again, all of them, and go on from there; so does a run with fewer or more workers, or with one.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from components.ray.address import check_nodes, fits
from components.ray.local import local_ray, prepare, results_folder
from components.ray.needs import Needs, here
from components.ray.place import bring, joined
from components.train.kept import fetch, note_of, remote_of
from components.train.rows import Rows
from seaway.config import Config
from seaway.errors import SeawayError
from seaway.progress import say
from seaway.storage import Storage

ROOM_S = 600.0  # for the workers' machines to join the Ray of a RayJob
PROGRESS_S = 10.0  # between two lines
LOOK_S = 0.5
_OWN = {
    "TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S": "3",  # who has lost the others cannot leave in good order
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # nobody takes this machine's node away
    "RAY_TRAIN_METRICS_ENABLED": "0",
}
SILENT_S = 600  # of a worker, until the others take it for lost; one that has ended is noticed at once


def train_together(
    config: Config,
    params: Mapping[str, Any],
    rows: Rows,
    epochs: int,
    file: Path,
    address: str | None = None,
    tell: Callable[[str], Any] = say,
) -> dict[str, Any]:
    """Train ``epochs`` epochs with ``training.workers`` workers; the state is then in ``file``.

    Where: a Ray of our own, the one of ``ray.address``, or the one at ``address``. ``tell`` gets lines of progress.
    Returns ``device`` (cpu or cuda), ``resumed`` (epochs found done by the last start of the workers) and ``workers``.
    Raises SeawayError when there is no room for them, when the model cannot be trained so, or when they were lost
    ``training.retries`` + 1 times.
    """
    needs, wanted = Needs.of(config.training.resources), config.training
    if config.compute.device == "cuda" and not needs.gpu:
        raise SeawayError("compute.device is cuda, and training.resources.gpu is 0: give each worker a GPU")
    remote = remote_of(config, file)
    job = {
        "model": config.workload.model,
        "root": str(config.root.absolute()),
        "params": dict(params),
        "epochs": epochs,
        "seed": config.workload.sweep.seed,
        "device": config.compute.device if needs.gpu else "cpu",  # who was given no GPU takes none
        "threads": 1,
        "file": str(file.absolute()),
        "remote": remote,
        "every": PROGRESS_S,
    }
    lost: list[str] = []
    away = bool(address or _address(config))
    tell(f"train: {wanted.workers} workers, each with {wanted.resources.cpu} CPU and {needs.gpu:g} GPU")
    with _ray(config, needs, rows, file, address, lost.append) as ray:
        result = _attended(lambda: _fit(ray, config, needs, job, rows, away), lost, Progress(job, tell))
    if result.get("error"):
        raise SeawayError(result["error"])
    fetch(remote, file)
    return result


def _attended(fit: Callable[[], Any], lost: list[str], progress: Progress) -> Any:
    """What ``fit`` returns or raises, from a thread of its own.

    In this one Ray would take Ctrl-C for a good end, and wait for ever for servers of its own that have ended.
    """
    got: dict[str, Any] = {}

    def run() -> None:
        try:
            got["value"] = fit()
        except BaseException as error:
            got["error"] = error

    thread = threading.Thread(target=run, daemon=True, name="train-fit")
    thread.start()
    while thread.is_alive() and not lost:
        thread.join(LOOK_S)
        progress.look()
    if lost:
        raise SeawayError(f"Ray's {lost[0]} has ended; finished epochs are kept: run again to go on")
    if "error" in got:
        raise got["error"]
    return got["value"]


class Progress:
    """Tells what worker 0 has noted of its epochs beside the state, every ``PROGRESS_S`` at most."""

    def __init__(self, job: Mapping[str, Any], tell: Callable[[str], Any]) -> None:
        self._job, self._tell, self._note = job, tell, note_of(Path(job["file"]))
        self._told, self._looked = (0, 0), time.monotonic()
        self._note.unlink(missing_ok=True)

    def look(self) -> None:
        if time.monotonic() - self._looked < self._job["every"] / 2:
            return
        self._looked = time.monotonic()
        with suppress(OSError, ValueError, KeyError, SeawayError):
            bring(self._job["remote"], self._note)
            note = json.loads(self._note.read_text())
            at = (note["resumed"], note["epoch"])
            if at != self._told:
                after = f", gone on after epoch {at[0]}" if at[0] != self._told[0] else ""
                self._tell(f"train: epoch {at[1]}/{self._job['epochs']}, loss {note['loss']:.4f}{after}")
                self._told = at


def _fit(ray: Any, config: Config, needs: Needs, job: dict[str, Any], rows: Rows, away: bool) -> dict[str, Any]:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    from components.train.worker import work

    wanted, number = config.training, config.training.workers
    resources = {"CPU": needs.cpu} | ({"GPU": needs.gpu} if needs.gpu else {})
    resources |= {"memory": needs.memory} if away else {}  # several machines: Ray must count it
    trainer = TorchTrainer(
        work,
        train_loop_config=job | {"rows": [ray.put(rows.features), ray.put(rows.labels)]},
        torch_config=TorchConfig(backend="nccl" if needs.gpu else "gloo", timeout_s=SILENT_S),
        scaling_config=ScalingConfig(num_workers=number, use_gpu=bool(needs.gpu), resources_per_worker=resources),
        run_config=RunConfig(
            name=f"{Path(job['file']).stem}-{os.getpid()}",
            storage_path=str(results_folder()),  # of Ray's own notes; the state is ours
            # workers that do not even start are a failure too: Ray would try again for ever
            failure_config=FailureConfig(max_failures=wanted.retries, controller_failure_limit=wanted.retries),
        ),
    )
    try:
        return trainer.fit().return_value
    except TrainingFailedError as error:
        why = next(iter(getattr(error, "worker_failures", {}).values()), error)
        raise SeawayError(
            f"the workers of the training failed {wanted.retries + 1} times, at last with: "
            f"{str(why).strip().splitlines()[-1][:300].rstrip('.')}. Run again: it goes on from the last epoch"
        ) from error


@contextmanager
def _ray(
    config: Config, needs: Needs, rows: Rows, file: Path, address: str | None, lost: Callable[[str], None]
) -> Iterator[Any]:
    """The ``ray`` module, connected to one that has room for the workers; ``lost`` as for local_ray."""
    number, where = config.training.workers, address or _address(config)
    if where:
        prepare(own=False)
        with joined(where) as ray:
            until = time.monotonic() + (ROOM_S if address else 0)
            while (fit := sum(fits(n["Resources"], needs) for n in ray.nodes() if n["Alive"])) < number:
                if time.monotonic() >= until:
                    raise _no_room(config, f"the Ray at {where!r} has room for {fit}")
                time.sleep(1)
            if not address:  # a RayJob's pods are of one image, and use object storage
                file.parent.mkdir(parents=True, exist_ok=True)
                check_nodes(config, file.parent, Storage.of(config) is None, ["components.train.worker"], needs)
            yield ray
        return
    cpus, memory = here(config)
    gpus = _gpus() if needs.gpu else 0
    if (fit := needs.fits(cpus, memory, gpus)) < number:
        raise _no_room(config, f"this machine has room for {fit}")
    size = np.asarray(rows.features).nbytes + np.asarray(rows.labels).nbytes
    os.environ.update(_OWN)
    with local_ray(max(1, cpus), gpus, 2 * size + 80_000_000, lost) as ray:
        yield ray


def _address(config: Config) -> str | None:
    return config.ray.address if config.ray.substrate == "address" else None


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def _no_room(config: Config, there: str) -> SeawayError:
    each = config.training.resources
    return SeawayError(
        f"training.workers is {config.training.workers}, each with {each.cpu} CPU, {each.memory} and {each.gpu:g} GPU "
        f"(training.resources), and {there}: ask for less, or train elsewhere (ray.substrate: address or kuberay)"
    )
