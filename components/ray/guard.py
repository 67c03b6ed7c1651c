"""Ends what a killed sweep leaves: run beside it as ``python -m components.ray.guard MARKER``.

Ray's main processes end with their driver, but its agents stay for minutes when the driver is killed:
they wait for a server that is gone too. This process reads its standard input, which closes when the
driver ends in any way, and then ends every process that carries the marker in its environment or
descends from one that did. It keeps looking while the driver lives, as Ray's processes rename
themselves and so overwrite their environment.
"""

from __future__ import annotations

import os
import select
import sys
import time

import psutil

MARKER = "SEAWAY_SWEEP"
LOOK_SECONDS = 1.0
GRACE_SECONDS = 0.5
_YOUNG_SECONDS = 10.0  # between fork and exec a process still shows its parent's environment


class Family:
    """The processes that carry the marker, and their descendants."""

    def __init__(self, marker: str) -> None:
        self._wanted = marker
        self._members: dict[int, psutil.Process] = {}
        self._others: dict[int, float] = {}  # pid -> when it started

    def look(self) -> None:
        for process in psutil.process_iter():
            try:
                pid, born = process.pid, process.create_time()
                known = self._members.get(pid)
                if pid == os.getpid() or known == process or self._others.get(pid) == born:
                    continue
                if process.ppid() in self._members or process.environ().get(MARKER) == self._wanted:
                    self._members[pid] = process
                elif time.time() - born > _YOUNG_SECONDS:
                    self._others[pid] = born
            except psutil.Error:
                continue

    def alive(self) -> list[psutil.Process]:
        return [process for process in self._members.values() if _runs(process)]


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def main() -> None:
    family = Family(sys.argv[1])
    while not select.select([sys.stdin], [], [], LOOK_SECONDS)[0]:
        family.look()
    until = time.monotonic() + GRACE_SECONDS  # most end by themselves
    family.look()
    while family.alive() and time.monotonic() < until:
        time.sleep(0.1)
        family.look()
    for process in family.alive():
        try:
            process.kill()
        except psutil.Error:
            continue


if __name__ == "__main__":
    main()
