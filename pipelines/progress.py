"""What a run tells the person who waits: a line when a step starts, what it says, a line when it ends."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from seaway.progress import LIVE_VARIABLE, parse

Event = dict[str, Any]
OnEvent = Callable[[Event], None]


@contextmanager
def shown(on_event: OnEvent | None = None, explain: bool = False, stream: TextIO | None = None) -> Iterator[OnEvent]:
    """Where a run's events go: to ``on_event`` where it is given, else to ``stream`` (None: standard output).

    A terminal that can be redrawn gets a live view, and steps then tell every second how far they are. Anything else
    gets lines.
    """
    stream = stream or sys.stdout
    if on_event or not redrawn(stream):
        yield on_event or Terminal(stream, explain)
        return
    from pipelines.live import LiveTerminal

    os.environ[LIVE_VARIABLE] = "1"
    try:
        with LiveTerminal(stream, explain) as live:
            yield live
    finally:
        del os.environ[LIVE_VARIABLE]


def redrawn(stream: TextIO) -> bool:
    """Whether a view may be drawn there again and again: a terminal, not a dumb one, that knows Unicode."""
    known = (getattr(stream, "encoding", None) or "").lower().replace("-", "") in ("utf8", "utf16")
    return stream.isatty() and known and os.environ.get("TERM", "dumb") not in ("dumb", "unknown", "")


class Terminal:
    """Prints a run's events. With ``explain`` each step's line says why it ran or not."""

    def __init__(self, stream: TextIO | None = None, explain: bool = False) -> None:
        self._stream, self._explain = stream or sys.stdout, explain

    def __call__(self, event: Event) -> None:
        line = self.line(event)
        if line:
            print(line, file=self._stream, flush=True)

    def line(self, event: Event) -> str:
        """The text for one event; empty when there is nothing to say."""
        step = f"{event.get('step', ''):<9}"
        kind = event["event"]
        if kind == "reason" and not event["skipped"]:
            return f"  {step} ..." + (f"  (why: {event['reason']})" if self._explain else "")
        if kind == "note":
            return f"  {event['text']}"
        if kind == "progress":
            return f"  {step}   {event['text']}"
        if kind == "end" and event["status"] == "skipped":
            why = event["reason"] if self._explain else "unchanged"
            return f"  {step} skipped ({why})  {one_line(event['summary'])}"
        if kind == "end":
            return f"  {step} {event['seconds']:6.1f} s  {one_line(event['summary'])}"
        return f"  {step} failed" if kind == "fail" else ""


def one_line(summary: Any, limit: int = 110) -> str:
    """A step's summary as one line: its numbers and words, nested ones as "name: ...", no hashes and paths."""
    text = _words(summary)
    return text if len(text) <= limit else text[: limit - 4].rsplit(",", 1)[0] + " ..."


def _words(record: dict[str, Any]) -> str:
    parts = []
    for key, item in record.items():
        name = str(key).replace("_", " ")
        if isinstance(item, dict):
            parts += [f"{name}: {_words(item)}"] if item else []
        elif isinstance(item, list):
            parts += [f"{name} {' '.join(map(str, item))}"] if 0 < len(item) < 4 else []
        elif item is not None and len(str(item)) < 32 and name != "seconds":
            parts.append(f"{name} {_word(item)}")
    return ", ".join(parts)


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() and abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


class EventStream(io.TextIOBase):
    """A text stream that keeps everything in a log file and hands marked lines on as events."""

    encoding = "utf-8"

    def __init__(self, log: TextIO, on_event: OnEvent) -> None:
        self._log, self._on_event, self._rest = log, on_event, ""

    def write(self, text: str) -> int:
        self._log.write(text)
        lines = (self._rest + text).split("\n")
        self._rest = lines.pop()
        for line in lines:
            if event := parse(line):
                self._on_event(event)
        return len(text)

    def flush(self) -> None:
        self._log.flush()
