"""Partitions scored one after the other in this process, or side by side as tasks of Ray."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from components.score.model import Model
from components.score.partition import Wish, score
from components.score.places import Place
from components.score.table import Part
from seaway.config import Config
from seaway.errors import SeawayError

RAY_MEMORY = 80_000_000  # bytes of shared objects, beside the models of slices: names of files and one model
LOOK_S = 1.0

Done = tuple[Part, dict[str, Any] | str]  # a manifest, or why there is none


def workers(config: Config) -> int:
    return config.scoring.workers or config.compute.cpus or len(os.sched_getaffinity(0))


def scored(config: Config, todo: Sequence[Part], out: Place, wish: Wish, model: Model) -> Iterator[Done]:
    """Each partition as it is done. SeawayError when Ray is lost: what is done stays done."""
    if config.ray.substrate == "local" and min(workers(config), len(todo)) <= 1:
        yield from ((part, attempt(part, out, wish, model)) for part in todo)
        return
    lost: list[str] = []
    with _ray(config, out, RAY_MEMORY + sum(map(len, model.files.values())), lost) as ray:
        task = ray.remote(num_cpus=1, max_retries=2)(attempt)
        shared = ray.put(model)
        running = {task.remote(part, out, wish, shared, 1): part for part in todo}
        while running:
            ready, _ = ray.wait(list(running), num_returns=1, timeout=LOOK_S)
            if lost:
                raise SeawayError(f"Ray's {lost[0]} has ended; finished partitions are kept: run again to go on")
            for reference in ready:
                yield running.pop(reference), _result(ray, reference)


def attempt(part: Part, out: Place, wish: Wish, model: Model, threads: int = 0) -> dict[str, Any] | str:
    """A partition's manifest, or why it cannot be scored. ``threads``: that reading takes, 0 for any number."""
    if threads:
        os.environ.setdefault("POLARS_MAX_THREADS", str(threads))  # read when Polars is imported
    try:
        return score(part, out, wish, model)
    except SeawayError as error:
        return str(error)


def _result(ray: Any, reference: Any) -> dict[str, Any] | str:
    try:
        return ray.get(reference)
    except ray.exceptions.OutOfMemoryError:
        return "its worker ran out of memory, which one partition must fit into: set scoring.workers lower"
    except ray.exceptions.WorkerCrashedError:
        return "its worker was killed three times: is the machine out of memory?"


@contextmanager
def _ray(config: Config, out: Place, memory: int, lost: list[str]) -> Iterator[Any]:
    from components.ray.local import local_ray, prepare

    if config.ray.substrate == "local":
        with local_ray(workers(config), 0, memory, lost.append) as ray:
            yield ray
        return
    prepare(own=False)
    from components.ray.place import joined

    with joined(config.ray.address or "auto") as ray:
        if not out.remote:
            _same_files(ray, out)
        yield ray


def _same_files(ray: Any, out: Place) -> None:
    """SeawayError unless every machine of that Ray sees the folder of the output."""
    mark = f".seen-{os.getpid()}"
    out.write(mark, b"")
    try:
        nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        to = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        look = ray.remote(num_cpus=0)(os.path.exists)
        asked = {
            node["NodeManagerAddress"]: look.options(scheduling_strategy=to(node["NodeID"], soft=False)).remote(
                out.name(mark)
            )
            for node in nodes
        }
        for name, answer in asked.items():
            if not ray.get(answer, timeout=120):
                raise SeawayError(
                    f"node {name} of the Ray does not see {out.name()}: give URIs of object storage for the data and "
                    "--out, or folders that all its machines share"
                )
    finally:
        with suppress(OSError):
            out.remove(mark)
