"""Several actors whose steps interleave at their calls, in an order drawn from a seed: the same each time.

Each actor runs in a thread of its own, but only the one that holds the baton moves; at every call it may
hand it to another. Nothing runs in parallel.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np


class Turns:
    def __init__(self, draw: np.random.Generator) -> None:
        self._draw = draw
        self._batons: dict[int, threading.Semaphore] = {}  # by the thread's number, those not yet finished
        self._all_done = threading.Event()
        self._local = threading.local()

    def run(self, *jobs: Callable[[], None]) -> None:
        """All jobs to their ends. A job must not raise."""
        self._batons = {number: threading.Semaphore(0) for number in range(len(jobs))}
        self._all_done.clear()
        threads = [threading.Thread(target=self._job, args=(n, job), daemon=True) for n, job in enumerate(jobs)]
        for thread in threads:
            thread.start()
        self._hand_on()
        self._all_done.wait()
        for thread in threads:
            thread.join()

    def pause(self) -> None:
        """Another actor may go first. Outside of ``run`` nothing happens."""
        number = getattr(self._local, "number", None)
        if number is None or len(self._batons) < 2:
            return
        baton = self._batons[number]
        self._hand_on()
        baton.acquire()

    def _job(self, number: int, job: Callable[[], None]) -> None:
        self._local.number = number
        self._batons[number].acquire()
        try:
            job()
        finally:
            del self._batons[number]
            self._hand_on() if self._batons else self._all_done.set()

    def _hand_on(self) -> None:
        waiting = sorted(self._batons)
        self._batons[waiting[int(self._draw.integers(len(waiting)))]].release()
