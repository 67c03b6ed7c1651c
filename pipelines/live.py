"""A run on a terminal that can be redrawn: what is over stays as lines, what runs now is drawn below them."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from components.tune.live import board, head
from components.tune.snapshot import clock
from pipelines.progress import Event, Terminal

PER_SECOND = 4


class LiveTerminal(Terminal):
    """As ``Terminal``; a context, which leaves the terminal as it was however it ends."""

    def __init__(self, stream: TextIO, explain: bool = False, console: Console | None = None) -> None:
        super().__init__(stream, explain)
        self._console = console or Console(file=stream, highlight=False)
        self._running: dict[str, float] = {}  # step -> since when
        self._seen: dict[str, dict[str, Any]] = {}  # step -> what it told last of its sweep
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(
            console=self._console,
            get_renderable=self.renderable,
            refresh_per_second=PER_SECOND,
            transient=True,
            redirect_stdout=False,  # the steps' own output is read there
            redirect_stderr=sys.stderr.isatty(),
        )

    def __enter__(self) -> LiveTerminal:
        self._live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        for step in list(self._seen):
            self._keep(step)
        self._running.clear()
        self._live.__exit__(*error)

    def __call__(self, event: Event) -> None:
        kind, step = event["event"], event.get("step", "")
        if kind == "reason" and not event["skipped"]:
            self._running[step] = time.monotonic()
            if self._explain:
                self._print(self.line(event))
            return
        if kind == "progress" and "sweep" in event:
            self._seen[step] = event["sweep"]
            return
        if kind in ("end", "fail"):
            self._keep(step)
            self._running.pop(step, None)
        self._print(self.line(event))

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
            self._console.print(_indented(Group(*head(seen, self._console.width - 4))))

    def _print(self, line: str) -> None:
        if line:
            self._console.print(Text(line), soft_wrap=True)


def _indented(shown: RenderableType) -> Table:
    grid = Table.grid()
    grid.add_row("    ", shown)
    return grid
