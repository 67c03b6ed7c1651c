"""A run on a terminal that can be redrawn: what is over stays as lines, what runs now is drawn below them."""

from __future__ import annotations

import io
import sys
import threading
import time
from contextlib import ExitStack, redirect_stderr
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from components.tune.live import board, head
from components.tune.snapshot import clock
from pipelines.progress import Event, Terminal

EVERY_S = 0.25


class LiveTerminal(Terminal):
    """As ``Terminal``; a context, which leaves the terminal as it was however it ends.

    Whatever is written to the terminal goes through one lock: what is drawn is erased by its number of lines, which two
    threads must not count at once.
    """

    def __init__(self, stream: TextIO, explain: bool = False, console: Console | None = None) -> None:
        super().__init__(stream, explain)
        self._console = console or Console(file=stream, highlight=False)
        self._running: dict[str, float] = {}  # step -> since when
        self._seen: dict[str, dict[str, Any]] = {}  # step -> what it told last of its sweep
        self._spinner = Spinner("dots", style="cyan")
        # standard output stays as it is: the steps' own is read there
        self._live = Live(
            console=self._console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self._lock, self._over, self._around = threading.RLock(), threading.Event(), ExitStack()
        self._ticker = threading.Thread(target=self._tick, daemon=True, name="terminal")

    def __enter__(self) -> LiveTerminal:
        self._around.enter_context(self._live)
        if sys.stderr.isatty():
            self._around.enter_context(redirect_stderr(_Above(self)))
        self._ticker.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._over.set()
        self._ticker.join()
        for step in list(self._seen):
            self._keep(step)
        self._running.clear()
        self._live.update(self.renderable())
        self._around.__exit__(*error)

    def _tick(self) -> None:
        while not self._over.wait(EVERY_S):
            with self._lock:
                self._live.update(self.renderable(), refresh=True)

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._take(event)

    def _take(self, event: Event) -> None:
        kind, step = event["event"], event.get("step", "")
        if kind == "reason" and not event["skipped"]:
            self._running[step] = time.monotonic()
            if self._explain:
                self.say(self.line(event))
            return
        if kind == "progress" and "sweep" in event:
            self._seen[step] = event["sweep"]
            return
        if kind in ("end", "fail"):
            self._running.pop(step, None)
            self._keep(step)
        self.say(self.line(event))

    def renderable(self) -> RenderableType:
        """What is drawn now: each running step with its time, and what it tells of a sweep."""
        width, height = self._console.size
        parts: list[RenderableType] = []
        for step, since in list(self._running.items()):
            row = Table.grid(padding=(0, 1))
            row.add_row("", self._spinner, Text(f"{step:<9}", "bold"), Text(clock(time.monotonic() - since), "dim"))
            parts.append(row)
            if seen := self._seen.get(step):
                parts.append(_indented(board(seen, width - 4, height - len(self._running) - 1)))
        return Group(*parts)

    def _keep(self, step: str) -> None:
        """What a sweep has come to stays on the screen."""
        if seen := self._seen.pop(step, None):
            self._put(_indented(Group(*head(seen, self._console.width - 4))))

    def say(self, line: str) -> None:
        """A line that stays, above what is drawn."""
        if line:
            self._put(Text(line), soft_wrap=True)

    def _put(self, shown: RenderableType, **more: Any) -> None:
        with self._lock:
            self._live.update(self.renderable())  # drawn below it, as of now
            self._console.print(shown, **more)


class _Above(io.TextIOBase):
    """What else this process says on the terminal, such as a library's warnings."""

    def __init__(self, terminal: LiveTerminal) -> None:
        self._terminal, self._rest = terminal, ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._terminal.say(line)
        return len(text)

    def isatty(self) -> bool:
        return True


def _indented(shown: RenderableType) -> Table:
    grid = Table.grid()
    grid.add_row("    ", shown)
    return grid
