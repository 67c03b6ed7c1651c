"""Where slices are fitted: in this process, in a Ray of this machine, or in one that is there."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.slices.fit import Fitted, Job, Part, failure, fit, warm
from seaway.config import Config
from seaway.errors import SeawayError

LOOK_S = 1.0
AHEAD = 2  # slices handed in for each that runs: enough that no worker waits, few enough to be held in memory

Make = Callable[[str], Part]


class Crew:
    """``fitted`` gives each slice as it is done. ``start_seconds``: until Ray was there, 0 without one."""

    def __init__(self) -> None:
        self.start_seconds = 0.0

    def fitted(self, job: Job, order: Sequence[str], make: Make) -> Iterator[tuple[str, Fitted]]:
        """Each name of ``order`` with its fit, whose rows ``make`` takes out when its turn has come."""
        for name in order:
            yield name, fit(job, make(name))


class OnRay(Crew):
    """``lost`` gets the name of a server of our own Ray that has ended."""

    def __init__(self, ray: Any, lost: list[str], start_seconds: float) -> None:
        self._ray, self._lost, self.start_seconds = ray, lost, start_seconds

    def warm(self) -> None:
        """Let workers import while this process is still busy."""
        task = self._ray.remote(num_cpus=1, max_retries=0)(warm)
        self._warm = [task.remote() for _ in range(self._cpus())]  # a task whose result nobody holds may be dropped

    def fitted(self, job: Job, order: Sequence[str], make: Make) -> Iterator[tuple[str, Fitted]]:
        """As Crew's. Raises SeawayError when Ray is lost. A worker that dies takes no slice but its own along."""
        ray, waiting = self._ray, list(reversed(order))
        task, shared = ray.remote(num_cpus=1, max_retries=2)(fit), ray.put(job)
        running: dict[Any, tuple[str, Any]] = {}
        while waiting or running:
            while waiting and len(running) < AHEAD * self._cpus():
                part = make(waiting[-1])
                running[task.remote(shared, part)] = (waiting.pop(), part.whole.labels)
            ready, _ = ray.wait(list(running), num_returns=1, timeout=LOOK_S)
            if self._lost:
                raise SeawayError(f"Ray's {self._lost[0]} has ended; finished slices are kept: run again to go on")
            for reference in ready:
                name, labels = running.pop(reference)
                yield name, self._result(reference, labels)

    def _result(self, reference: Any, labels: Any) -> Fitted:
        from ray import exceptions

        try:
            return self._ray.get(reference)
        except exceptions.OutOfMemoryError:
            return failure(labels, "its worker ran out of memory three times")
        except exceptions.WorkerCrashedError:
            return failure(labels, "its worker was killed three times: is the machine out of memory?")
        except exceptions.RayTaskError as error:
            return failure(labels, str(error.cause)[:200])
        except exceptions.RayError as error:
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise SeawayError(f"a slice was lost ({said}); finished slices are kept: run again to go on") from error

    def _cpus(self) -> int:
        """Of the Ray as it is now: one that grows gets more to do."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))


@contextmanager
def crew(config: Config, slices: int, largest: int, address: str | None, folder: Path) -> Iterator[Crew]:
    """Who fits ``slices`` slices, the ``largest`` of so many bytes.

    Where: the Ray at ``address``, or of ``ray.address``, or the one that this process has joined already; else one of
    our own, unless there is one CPU or one slice. ``folder``: in home, for the check that a Ray's machines have the
    same code. Raises SeawayError when nobody answers there, or they have not.
    """
    from components.ray.local import local_ray, prepare
    from components.ray.needs import Needs, here

    began, lost = time.perf_counter(), []
    where = address or (config.ray.address if config.ray.substrate == "address" else None) or _joined()
    if where:
        from components.ray.address import check_nodes
        from components.ray.place import joined

        prepare(own=False)
        with joined(where) as ray:
            folder.mkdir(parents=True, exist_ok=True)
            check_nodes(config, folder, False, ("components.slices.fit",), Needs(1, 0))
            yield OnRay(ray, lost, time.perf_counter() - began)
        return
    cpus = min(here(config)[0], slices)
    if cpus <= 1:
        yield Crew()
        return
    with local_ray(cpus, 0, 3 * AHEAD * cpus * largest + 80_000_000, lost.append) as ray:
        found = OnRay(ray, lost, time.perf_counter() - began)
        found.warm()
        yield found


def _joined() -> str | None:
    """The address of the Ray that this process is part of."""
    ray = sys.modules.get("ray")
    return ray.get_runtime_context().gcs_address if ray and ray.is_initialized() else None
