"""The table of a sweep's trials, and what a folder of states says of those that failed."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from components.ray.place import forget
from components.tune.trial import failure_file
from seaway.artifacts import atomic_write
from seaway.errors import SeawayError


def write_trials(trials: Sequence[Mapping[str, Any]], metric: str, file: Path) -> None:
    """A row per trial and epoch; ``seconds`` counts from the trial's start.

    The trial's status, error, attempts, cpu_seconds and gpu_seconds stand in each of its rows. One that has no
    epoch has a single row, without epoch, loss, metric and seconds.
    """
    import polars as pl

    none = dict.fromkeys(("epoch", "loss", metric, "seconds"))
    rows = [
        {
            "trial": t["index"],
            **{name: e[name] for name in none},
            **t["params"],
            **{name: t[name] for name in ("status", "error", "attempts", "cpu_seconds", "gpu_seconds")},
        }
        for t in trials
        for e in (t["epochs"] or [none])
    ]
    made = io.BytesIO()
    pl.DataFrame(rows, infer_schema_length=None).write_parquet(made)
    with atomic_write(file) as temporary:
        temporary.write_bytes(made.getbuffer())  # a full disk is then an OSError, as everywhere


def unfailed(folder: Path, remote: Mapping[str, Any] | None, trials: Sequence[Mapping[str, Any]]) -> None:
    """Where every trial has failed no suggestion rests on a success: let all be tried again."""
    for trial in trials:
        file = failure_file(folder, trial["index"], trial["params"])
        file.unlink(missing_ok=True)
        with suppress(SeawayError):
            forget(remote, file)
