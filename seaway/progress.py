"""Lines that a running step shows at the terminal.

The pipeline runner reads everything that a step prints. Marked lines are events for the person who
waits; the rest (the libraries' own output) goes to the run's log file. No pipe, file or port of its own
is needed, and on a cluster the same lines stand in the pod's log.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

MARK = "@seaway "
STEP_VARIABLE = "SEAWAY_STEP"  # set while a step runs inside a pipeline


@contextmanager
def of_step(name: str) -> Iterator[None]:
    """Lines shown inside the block belong to the step ``name``."""
    before = os.environ.get(STEP_VARIABLE)
    os.environ[STEP_VARIABLE] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ[STEP_VARIABLE]
        else:
            os.environ[STEP_VARIABLE] = before


def say(text: str) -> None:
    """Show one line of progress; outside a pipeline it goes to standard error as it is."""
    if os.environ.get(STEP_VARIABLE):
        emit("progress", text=text)
    else:
        print(text, file=sys.stderr, flush=True)


def stream() -> TextIO:
    """Where to write lines of progress: standard error, or, inside a pipeline, a stream that calls ``say``."""
    return _Lines() if os.environ.get(STEP_VARIABLE) else sys.stderr


class _Lines(io.TextIOBase):
    def __init__(self) -> None:
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in filter(str.strip, lines):
            say(line.strip())
        return len(text)


def emit(event: str, **fields: Any) -> None:
    """Print one marked line: ``event`` and JSON-able fields; the step's name is added."""
    record = {"event": event, "step": os.environ.get(STEP_VARIABLE, ""), **fields}
    # one write: lines of threads and child processes must not mix
    sys.stdout.write(MARK + json.dumps(record, default=str) + "\n")
    sys.stdout.flush()


def parse(line: str) -> dict[str, Any] | None:
    """The event of a printed line; None for a line that is not marked."""
    _, mark, text = line.partition(MARK)
    if not mark:
        return None
    try:
        record = json.loads(text)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "event" in record else None
