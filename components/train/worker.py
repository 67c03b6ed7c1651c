"""What each worker of a distributed training runs."""

from __future__ import annotations

import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from components.ray.place import keep, write_beside
from components.train.device import pick_device
from components.train.group import Group
from components.train.kept import fetch, note_of
from components.train.loop import Training
from components.train.rows import Rows
from seaway.artifacts import write_json
from seaway.errors import SeawayError
from seaway.hooks import resolve


def work(job: dict[str, Any]) -> dict[str, Any]:
    """Train until the end, from worker 0's state; ``device``, ``resumed`` and ``workers``, or ``error``.

    What goes wrong with all of them each time is returned and not raised: Ray would start them again.
    """
    import ray
    import torch

    torch.set_num_threads(job["threads"])
    group = Group.joined()
    features, labels = ray.get(job["rows"])
    try:
        training = Training(
            resolve(job["model"], Path(job["root"])).build,
            job["params"],
            Rows(features, labels),
            None,
            max_epochs=job["epochs"],
            seed=job["seed"],
            device=pick_device(job["device"]),
            group=group,
        )
    except SeawayError as error:
        return {"error": str(error)}
    resumed = _start(group, training, job)
    note, said = note_of(Path(job["file"])), float("-inf")
    while not training.finished:
        try:
            training.epoch()
        except FloatingPointError as error:
            return {"error": str(error)}
        if group.rank == 0:  # what fails here is worker 0's alone: raised, so that the others do not wait for it
            training.save(Path(job["file"]))
            keep(job["remote"], Path(job["file"]), last=training.finished)
            if time.monotonic() - said >= job["every"]:
                said = time.monotonic()
                with suppress(OSError, SeawayError):  # nobody misses a line of progress
                    write_json(note, {"resumed": resumed, **training.history[-1]})
                    write_beside(job["remote"], note)
    return {"device": training.device, "resumed": resumed, "workers": group.size}


def _start(group: Group, training: Training, job: dict[str, Any]) -> int:
    """Go on from what worker 0 finds; the number of epochs done."""
    file = Path(job["file"])
    if group.rank == 0:
        fetch(job["remote"], file)
        group.share_file(file, training.device)
        training.load(file)
    else:
        with tempfile.TemporaryDirectory(prefix="seaway-train-") as folder:
            group.share_file(Path(folder) / file.name, training.device)
            training.load(Path(folder) / file.name)
    return len(training.history)
