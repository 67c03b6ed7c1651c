"""Partitions scored one after the other in this process, side by side as tasks of Ray, or first so and then so."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

from components.score.answers import answers
from components.score.model import Model
from components.score.partition import Wish, score
from components.score.places import Place
from components.score.table import Part
from seaway.config import Config
from seaway.errors import SeawayError

RAY_MEMORY = 80_000_000  # bytes of shared objects, beside the models of slices: names of files and one model
RAY_START_S = 6.0  # what takes this process less is not worth the start of a Ray
LOOK_S = 1.0

Done = tuple[Part, dict[str, Any] | str]  # a manifest, or why there is none


def workers(config: Config) -> int:
    return config.scoring.workers or config.compute.cpus or len(os.sched_getaffinity(0))


def scored(config: Config, todo: Sequence[Part], out: Place, wish: Wish, model: Model) -> Iterator[Done]:
    """Each partition as it is done. SeawayError when Ray is lost: what is done stays done."""
    lost: list[str] = []
    opening = _ray(config, out, RAY_MEMORY + sum(map(len, model.files.values())), lost)
    if config.ray.substrate != "local":
        with opening as ray:
            yield from _spread(ray, todo, out, wish, model, lost)
    elif workers(config) > 1:
        yield from _here_first(opening, workers(config), todo, out, wish, model, lost)
    else:
        yield from ((part, attempt(part, out, wish, model)) for part in todo)


def _here_first(
    opening: AbstractContextManager[Any],
    many: int,
    todo: Sequence[Part],
    out: Place,
    wish: Wish,
    model: Model,
    lost: list[str],
) -> Iterator[Done]:
    """Partitions in a thread of this process until Ray is there; Ray only where it is worth its start."""
    from components.ray.local import Early

    left, ray, mine, began = deque(todo), None, None, time.perf_counter()
    try:
        while left and not (ray and ray.entered.done()):
            part = left.popleft()
            mine = _begun(attempt, part, out, wish, model)
            if ray is None:
                wait([mine], timeout=LOOK_S)
                each = (time.perf_counter() - began) / (len(todo) - len(left))
                if left and (not mine.done() or each * len(left) > RAY_START_S):
                    ray = Early(_warm(opening, model, many))
            wait([mine, ray.entered] if ray else [mine], return_when=FIRST_COMPLETED)
            if mine.done():
                yield part, mine.result()
                mine = None
        if left:
            with ray as started:
                yield from _spread(started, left, out, wish, model, lost)
        if mine:
            yield part, mine.result()
    finally:
        if ray:
            ray.close()


@contextmanager
def _warm(opening: AbstractContextManager[Any], model: Model, many: int) -> Iterator[Any]:
    """A Ray whose ``many`` workers have done their imports, and opened the model."""
    with opening as ray:
        task, shared = ray.remote(num_cpus=1)(_ready), ray.put(model)
        ray.wait([task.remote(shared) for _ in range(many)], num_returns=many)
        yield ray


def _ready(model: Model) -> None:
    _threads(1)
    import polars  # noqa: F401

    answers(model)


def _begun(call: Callable[..., Any], *args: Any) -> Future[Any]:
    """What ``call`` gives, in a thread that does not keep the process from ending."""
    done: Future[Any] = Future()

    def run() -> None:
        try:
            done.set_result(call(*args))
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True, name="score").start()
    return done


def _spread(ray: Any, todo: Sequence[Part], out: Place, wish: Wish, model: Model, lost: list[str]) -> Iterator[Done]:
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
        _threads(threads)
    try:
        return score(part, out, wish, model)
    except SeawayError as error:
        return str(error)


def _threads(number: int) -> None:
    os.environ.setdefault("POLARS_MAX_THREADS", str(number))  # read when Polars is imported


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
