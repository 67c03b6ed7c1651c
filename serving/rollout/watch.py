"""A live view of a release until its verdict. It only reads: ending it leaves the release alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from seaway.errors import SeawayError
from serving.rollout.state import UNDER_WAY
from serving.rollout.view import board, line
from serving.rollout.words import kind

EVERY_S = 1.0


def watch(
    read: Callable[[], Mapping[str, Any]],
    console: Console | None = None,
    *,
    every: float = EVERY_S,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Show what ``read`` (``commands.status``) gives until the release has ended; returns its phase.

    On a terminal one screen is redrawn; elsewhere a line is printed whenever the phase, the weights or the
    reason changed, and once a minute. A reading that fails is said and tried again, except the first.
    SeawayError when there is no release.
    """
    console = console or Console(highlight=False)
    status = read()
    if not status.get("release"):
        raise SeawayError("there is no release to watch: start one with `seaway release start`")
    show = _Screen(console) if console.is_terminal else _Lines(console)
    with show:
        trouble = ""
        while True:
            show(status, trouble)
            if not trouble and status["phase"] not in UNDER_WAY:
                return str(status["phase"])
            sleep(every)
            try:
                fresh = read()
                if not fresh.get("release"):
                    raise SeawayError("the released object is gone")
                status, trouble = fresh, ""
            except (OSError, SeawayError) as error:
                trouble = str(error)


class _Screen:
    def __init__(self, console: Console) -> None:
        self.console = console
        self.live = Live(console=console, auto_refresh=False, vertical_overflow="visible")

    def __enter__(self) -> _Screen:
        self.live.__enter__()
        return self

    def __exit__(self, *args: Any) -> None:
        self.live.__exit__(*args)

    def __call__(self, status: Mapping[str, Any], trouble: str) -> None:
        shown: RenderableType = board(status, self.console.width)
        if trouble:
            shown = Group(shown, Text(f"cannot be read now: {trouble}", "red"))
        self.live.update(shown, refresh=True)


class _Lines:
    """For a pipe or a log file."""

    REPEAT_S = 60.0

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self.console, self.clock = console, clock
        self.key: Any = None
        self.said = -self.REPEAT_S

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *args: Any) -> None:
        return None

    def __call__(self, status: Mapping[str, Any], trouble: str) -> None:
        said = kind(str(status.get("reason", "")))
        key = (status.get("phase"), tuple(status.get("weights", {}).items()), said, trouble)
        if key == self.key and self.clock() - self.said < self.REPEAT_S:
            return
        self.key, self.said = key, self.clock()
        text = f"cannot be read now: {trouble}" if trouble else line(status)
        self.console.print(text, soft_wrap=True, markup=False)
