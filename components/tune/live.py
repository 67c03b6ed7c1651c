"""A running sweep on a terminal: what a snapshot (components.tune.snapshot) tells, as one thing to redraw. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from components.tune.snapshot import clock, left, money

_BARS = "▁▂▃▄▅▆▇█"
_NARROW, _THIN = 64, 40  # columns: below the first no curves and costs, below the second no table
_AROUND = 8  # lines of a screen that are not trials
COLOURS = {"running": "cyan", "finished": "green", "stopped early": "yellow", "failed": "red", "ended": "magenta"}
_COUNTS = (("finished", "finished"), ("stopped", "stopped early"), ("failed", "failed"), ("ended", "ended"))


def board(seen: Mapping[str, Any], width: int = 100, height: int = 40) -> RenderableType:
    """The whole view on a screen of ``width`` characters and ``height`` lines."""
    parts: list[RenderableType] = list(head(seen, width))
    if width >= _THIN and (seen["running"] or seen["recent"]):
        parts.append(_trials(seen, width, max(1, height - _AROUND)))
    if seen["dashboard"]:
        parts.append(_cut(Text.assemble(("Ray's dashboard  ", "dim"), seen["dashboard"])))
    return Group(*parts)


def head(seen: Mapping[str, Any], width: int = 100) -> list[Text]:
    """The lines that stay when the sweep is over: how far it is, the best so far, what it costs."""
    over = sum(seen[name] for name, _ in _COUNTS)
    bar = max(6, min(24, width - 66))
    words = [f"{len(seen['running'])} running"] if seen["running"] else []
    words += [f"{seen[name]} {said}" for name, said in _COUNTS if seen[name]]
    how = Text.assemble(
        ("sweep ", "bold"), f" {over}/{seen['trials']} ", _bar(over / seen["trials"], bar, "cyan"), "  ",
        " · ".join(words) or "starting Ray",
    )  # fmt: skip
    lines = [how, Text.assemble(("time  ", "bold"), f" {clock(seen['seconds'])}{left(seen)}")]
    if best := seen["best"]:
        text = Text.assemble(
            ("best  ", "bold"), f" {seen['metric'].replace('_', ' ')} ", (f"{best['value']:.4f}", "bold green"),
            f"  trial {best['trial']}  ",
        )  # fmt: skip
        room = min(28, width - len(text.plain) - 2)
        if room >= 6:
            text.append(spark(seen["curve"], room), "green")
        lines.append(text)
    if seen["priced"]:
        text = Text.assemble(("cost  ", "bold"), f" {money(seen)}  ")
        if seen["limit"]:
            share = seen["usd"] / seen["limit"]
            text.append_text(_bar(share, bar, "red" if share > 0.8 else "cyan"))
        lines.append(text)
    return [_cut(line) for line in lines]


def spark(values: Sequence[float], width: int = 20, low: float | None = None, high: float | None = None) -> str:
    """A curve as a row of bars, its last value at the right; ``low`` and ``high`` are its own where they are None."""
    if not values:
        return ""
    if len(values) > width:
        values = [values[round(i * (len(values) - 1) / (width - 1))] for i in range(width)]
    low = min(values) if low is None else low
    high = max(values) if high is None else high
    if high <= low:
        return _BARS[3] * len(values)
    return "".join(_BARS[min(7, max(0, int((v - low) / (high - low) * 8)))] for v in values)


def _trials(seen: Mapping[str, Any], width: int, most: int) -> Table:
    """Those that run, then those that ended last, the newest first."""
    wide = width >= _NARROW
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    metric = seen["metric"].replace("_", " ") if wide else "value"
    widths = {"trial": 5, "": 13, "epochs": 6, metric: max(6, len(metric))}
    if wide:
        widths |= {" ": 12} | ({"USD": 7} if seen["priced"] else {})
        widths |= {"  ": max(4, width - sum(widths.values()) - 2 * len(widths))}
    for name, wanted in widths.items():
        side = "left" if name.isspace() or not name else "right"
        table.add_column(name, justify=side, no_wrap=True, width=wanted, overflow="ellipsis")
    running, recent = seen["running"], seen["recent"][::-1]
    shown = [*running, *recent][:most]
    curves = [v for trial in shown for v in trial["curve"]]
    low, high = (min(curves), max(curves)) if curves else (0.0, 1.0)
    best = (seen["best"] or {}).get("trial")
    for trial in shown:
        table.add_row(*_row(seen, trial, trial["trial"] == best, wide, (low, high)))
    hidden = len(running) - sum(trial["status"] == "running" for trial in shown)
    if hidden:
        table.add_row("", Text(f"and {hidden} more", "dim"), "", "")
    return table


def _row(
    seen: Mapping[str, Any], trial: Mapping[str, Any], best: bool, wide: bool, bounds: tuple[float, float]
) -> list[RenderableType]:
    status, colour = trial["status"], COLOURS.get(trial["status"], "white")
    epochs = f"{trial['epoch']}/{seen['max_epochs']}" if status == "running" else str(trial["epoch"])
    value = "–" if trial["value"] is None else f"{trial['value']:.4f}"
    cells: list[RenderableType] = [str(trial["trial"]), Text(status, colour), epochs]
    cells.append(Text(value, "bold green" if best else ""))
    if wide:
        cells.append(Text(spark(trial["curve"], 12, *bounds), colour))
        if seen["priced"]:
            cells.append(f"{trial['usd']:.2f}" if trial["usd"] >= 0.01 else f"{trial['usd']:.1g}")
        again = f"begun {trial['attempts']} times  " if trial["attempts"] > 1 else ""
        cells.append(Text(("best  " if best else "") + again + trial["error"], "dim"))
    return cells


def _bar(share: float, width: int, colour: str) -> Text:
    full = min(width, round(share * width))
    return Text.assemble(("━" * full, colour), ("─" * (width - full), "bright_black"))


def _cut(text: Text) -> Text:
    """On one line, whatever the terminal's width: what wraps cannot be redrawn in its place."""
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
