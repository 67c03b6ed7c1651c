"""Work in parts, wherever ``data.engine`` says: here, one after the other or side by side, or as tasks of Ray."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from seaway.config import Config
from seaway.errors import SeawayError
from seaway.shelf import Shelf

RAY_MEMORY = 80_000_000  # bytes for shared objects: tasks hand on names of files, not rows


def in_parts(config: Config | None) -> bool:
    """Whether tables are folders of days; without a configuration they are files."""
    return config is not None and config.data.engine != "memory"


def shelf_of(config: Config, step: str) -> Shelf:
    """The parts of the step's last run in this home."""
    return Shelf(config.home / "parts" / step if config.data.incremental else None)


@cache
def workers() -> int:
    return os.cpu_count() or 1


def spread(config: Config, call: Callable[[Any], Any], tasks: Sequence[Any], threads: int = 1) -> Iterator[Any]:
    """``call(task)`` for each task, in the order of the tasks.

    By ``data.engine``: on up to ``threads`` threads of this process, or as tasks of Ray, each with one CPU. A task is
    plain data with names of files; with ``ray.substrate`` address the machines of that Ray must see the same files.
    """
    if not tasks:
        return
    if len(tasks) == 1 or (config.data.engine != "ray" and threads == 1):
        yield from map(call, tasks)
        return
    if config.data.engine != "ray":
        with ThreadPoolExecutor(threads) as pool:
            yield from pool.map(call, tasks)
        return
    with _ray(config) as ray:
        remote = ray.remote(num_cpus=1, max_retries=1)(call)
        waiting = [remote.remote(task) for task in tasks]
        for reference in waiting:
            try:
                yield ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, SeawayError):
                    raise error.cause from None
                raise
            except ray.exceptions.RayError as error:
                raise SeawayError(
                    f"data.engine ray: a task was lost ({type(error).__name__}). Run again; if its machine ran out of "
                    "memory, with more memory a CPU, or with data.engine partitions"
                ) from error


@contextmanager
def _ray(config: Config) -> Iterator[Any]:
    from components.ray.local import local_ray, prepare
    from components.ray.place import joined

    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        yield sys.modules["ray"]
        return
    if config.ray.substrate == "local":
        with local_ray(workers(), 0, RAY_MEMORY) as ray:
            yield ray
        return
    if config.ray.substrate == "kuberay":
        raise SeawayError(
            "data.engine ray needs a Ray that is there: set ray.substrate to local, or to address with ray.address; "
            "or data.engine to partitions"
        )
    prepare(own=False)
    with joined(str(config.ray.address)) as ray:
        _same_files(ray, config.home.resolve())
        yield ray


def _same_files(ray: Any, home: Path) -> None:
    """SeawayError unless a task of that Ray sees this machine's home."""
    home.mkdir(parents=True, exist_ok=True)
    seen = ray.get(ray.remote(num_cpus=0, scheduling_strategy="SPREAD")(os.path.isdir).remote(str(home)))
    if not seen:
        raise SeawayError(
            f"data.engine ray: the machines of that Ray do not see {home}: set `home` to a folder that all share, "
            "or data.engine to partitions"
        )
