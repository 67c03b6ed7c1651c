"""Lines that a running step shows at the terminal.

The pipeline runner reads everything that a step prints. Marked lines are events for the person who
waits; the rest (the libraries' own output) goes to the run's log file. No pipe, file or port of its own
is needed, and on a cluster the same lines stand in the pod's log.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

MARK = "@seaway "
STEP_VARIABLE = "SEAWAY_STEP"  # set while a step runs inside a pipeline
LIVE_VARIABLE = "SEAWAY_LIVE"  # set while a terminal redraws what is told, so that it may be told every second


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


def say(text: str, **more: Any) -> None:
    """Show one line of progress; outside a pipeline it goes to standard error as it is.

    ``more``: what a terminal may draw instead of the line, such as ``sweep``.
    """
    if os.environ.get(STEP_VARIABLE):
        emit("progress", text=text, **more)
    else:
        print(text, file=sys.stderr, flush=True)


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
