"""Child processes that never outlive the operator, and free ports for them."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from seaway.processes import die_with_parent

_NOISE = "can only join a child process"  # multiprocessing's at the exit of any forked server


class Child:
    """One process in a group of its own, its output appended to a log file."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None):
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment) if environment is not None else None,
                start_new_session=True,  # Ctrl-C in the terminal is the owner's to handle
                # kept across exec: the kernel ends the child when the operator is gone, however it went
                preexec_fn=partial(die_with_parent, os.getpid(), signal.SIGKILL),
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def exited(self) -> int | None:
        """The exit status, or None while it runs."""
        return self.process.poll()

    def terminate(self) -> None:
        if self.exited() is None:
            self.process.terminate()

    def kill(self) -> None:
        """End the whole group at once."""
        if self.exited() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self.process.wait()


def free_ports(count: int) -> list[int]:
    """Loopback TCP ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


def last_lines(log: Path, count: int = 8, limit: int = 2000) -> str:
    """The end of a log, for a message."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - 16_384))
            lines = [line for line in stream.read().decode(errors="replace").splitlines() if line.strip()]
    except FileNotFoundError:
        return ""
    return "\n".join(lines[-count:])[-limit:]


def reason(log: Path) -> str:
    """The last error that a Python server logged, or the end of its log."""
    lines = last_lines(log, count=200, limit=16_384).splitlines()
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception): ", line) and _NOISE not in line]
    return errors[-1] if errors else "\n".join(lines[-8:])


def start_time(pid: int) -> str | None:
    """When the kernel started the process (clock ticks since boot): tells a reused pid from the old one."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return None
