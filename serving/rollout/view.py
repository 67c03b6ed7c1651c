"""A release's status (``commands.status``) for people: what `release status` prints and `release watch` redraws.

Evidence is drawn on a log scale, since it is multiplied block by block: equal steps are equal factors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

NAMES = {
    "errors": "errors",
    "latency": "slow answers",
    "decisions_up": "more positives",
    "decisions_down": "fewer positives",
    "flips": "flipped decisions",
    "score_shift": "score shift",
    "loss": "loss, by labels",
}
COLOURS = {"promoted": "green", "rolled back": "red", "held": "yellow", "provisional": "cyan", "running": "blue"}
SILENT_S = 120.0  # a loop writes at least once a minute
_LN10 = math.log(10)
_WORDS = 74  # characters of a row of the table beside the bar
_NARROW = 22  # a bar this short: roles become letters
_FROM, _TO = -2.0, 3.0  # powers of ten on the evidence's axis


def board(status: Mapping[str, Any], width: int = 100) -> RenderableType:
    """All that is known about a release now, as one thing to print on a screen of ``width`` characters."""
    long = min(46, max(16, width - _WORDS))
    if not status.get("release"):
        return Text(str(status.get("phase", "no release yet")))
    parts: list[RenderableType] = [_title(status), *_notes(status), Text(), _weights(status, long), Text()]
    parts += [_evidence(status, long)] if status.get("evidence") else [Text("no evidence yet", "dim")]
    parts += _checks(status)
    recent = status.get("recent") or []
    if recent:
        parts += [Text(), *(_event(event) for event in recent[-5:])]
    return Group(*parts)


def line(status: Mapping[str, Any]) -> str:
    """The same in one line, for a log or a pipe."""
    if not status.get("release"):
        return str(status.get("phase", "no release yet"))
    rows = status.get("evidence") or []
    stage = [row for row in rows if row["guardrail"] != "loss" or status["phase"] == "provisional"]
    weakest = min(stage or rows, key=lambda row: row["log_e_promote"], default=None)
    worst = max(rows, key=lambda row: row["log_e_rollback"], default=None)
    shares = " ".join(f"{name} {share} %" for name, share in status["weights"].items())
    text = f"{status['release']} {status['phase']}: {shares}"
    if weakest and worst:
        text += f"; least proven {weakest['guardrail']} E {number(weakest['log_e_promote'])}"
        text += f" of {number(weakest['promote_at'])}; most suspect {worst['guardrail']}"
        text += f" E {number(worst['log_e_rollback'])} of {number(worst['rollback_at'])}"
    left = status.get("left_s")
    return text + (f"; {clock(left)} left" if left is not None else f"; {status['reason']}")


def number(log_value: float) -> str:
    """E, from its logarithm, in at most seven characters."""
    if not math.isfinite(log_value):
        return str(log_value)
    ten = log_value / _LN10
    if abs(ten) >= 4:
        whole = math.floor(ten)
        return f"{min(9.9, 10 ** (ten - whole)):.1f}e{whole}"
    value = math.exp(log_value)
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 0.001 else f"{value:.1e}".replace("e-0", "e-")


def clock(seconds: float) -> str:
    """A length of time in its two largest units."""
    whole = max(0, round(seconds))
    for size, unit, below, small in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // below} {small}"
    return f"{whole} s"


def bar(log_value: float, log_limit: float, colour: str, width: int) -> Text:
    """One E as a bar from 1 on a log axis of 0.01 to 1,000 with its threshold marked."""
    text = Text("·" * width, "bright_black")
    one, end, limit = (_place(v, width) for v in (0.0, log_value, log_limit))
    low, high = sorted((one, end))
    strength = f"bold {colour}" if log_value >= log_limit else colour if log_value > 0 else "bright_black"
    cells = list(text.plain)
    for i in range(low, high + 1):
        cells[i] = "━"
    cells[one] = "┼" if one != end else "│"
    cells[limit] = "╂" if low <= limit <= high else "┃"
    drawn = Text("".join(cells), "bright_black")
    drawn.stylize(strength, low, high + 1)
    drawn.stylize(colour, limit, limit + 1)
    return drawn


def _place(log_value: float, width: int) -> int:
    share = (log_value / _LN10 - _FROM) / (_TO - _FROM) if math.isfinite(log_value) else float(log_value > 0)
    return round(min(1.0, max(0.0, share)) * (width - 1))


def _title(status: Mapping[str, Any]) -> Text:
    phase = status["phase"]
    text = Text.assemble(
        (str(status["release"]), "bold"), "  ", (phase, f"bold {COLOURS.get(phase, 'white')}"),
        f"  {status['canary']} against {status['stable']}",
    )  # fmt: skip
    if status.get("left_s") is not None:
        until = "for labels" if phase == "provisional" else "of the time cap"
        text.append(f"  {clock(status['left_s'])} {until} left", "dim")
    return text


def _notes(status: Mapping[str, Any]) -> list[Text]:
    notes = [Text(str(status["reason"]))] if status.get("reason") else []
    for key, words in (("frozen", "frozen by"), ("abort", "abort asked:"), ("promote", "promotion asked by")):
        if status.get(key):
            said = "a person" if status[key] is True else status[key]
            notes.append(Text(f"{words} {said}", "yellow"))
    silent = status.get("seen_ago_s") or 0
    if status.get("left_s") is not None and silent > SILENT_S:
        ask = "is `seaway release start` or `seaway controller` running?"
        notes.append(Text(f"nobody has looked at it for {clock(silent)}: {ask}", "bold yellow"))
    return notes


def _weights(status: Mapping[str, Any], long: int) -> Table:
    grid = Table.grid(padding=(0, 1))
    routed, requests = status.get("routed") or {}, status.get("requests") or {}
    for name, share in status["weights"].items():
        full = round(share / 100 * long)
        colour = "blue" if name == status["canary"] else "yellow"
        cells = Text("█" * full, colour) + Text("░" * (long - full), "bright_black")
        asked = requests.get("canary" if name == status["canary"] else "stable")
        said = f"{share:>3} %" + (f"  {asked:,} requests" if asked else "")
        if name in routed and routed[name] != share:
            said += f", the proxy routes {routed[name]} %"
        role = "canary" if name == status["canary"] else "stable"
        grid.add_row(name, Text(role, "dim"), cells, said)
    if status.get("shadow"):
        grid.add_row(status["shadow"], Text("shadow", "dim"), Text("copies only; answers nobody", "dim"), "")
    return grid


def _evidence(status: Mapping[str, Any], long: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="dim")
    table.add_column("guardrail", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column(_axis(long), no_wrap=True)
    table.add_column("E", justify="right", no_wrap=True)
    table.add_column("of", justify="right", no_wrap=True)
    narrow = long < _NARROW
    table.add_column("seen: c canary, s stable" if narrow else "seen", no_wrap=not narrow)
    for row in status["evidence"]:
        first, second = (
            words.replace("canary", "c").replace("stable", "s") if narrow else words for words in seen(row)
        )
        for side, colour, label, words in (("promote", "green", name_of(row), first), ("rollback", "red", "", second)):
            value, limit = row[f"log_e_{side}"], row[f"{side}_at"]
            style = f"bold {colour}" if value >= limit else ""
            table.add_row(
                label, Text("roll back" if side == "rollback" else side, "dim"), bar(value, limit, colour, long),
                Text(number(value), style), Text(number(limit), "dim"), words,
            )  # fmt: skip
    return table


def _axis(width: int) -> Text:
    cells = [" "] * width
    for power, words in ((-2, "0.01"), (0, "1"), (1, "10"), (2, "100")):
        at = _place(power * _LN10, width)
        cells[at : at + len(words)] = words
    return Text("".join(cells[:width]), "dim")


def name_of(row: Mapping[str, Any]) -> str:
    return NAMES.get(str(row["guardrail"]), str(row["guardrail"]).replace("_", " "))


def full_name(row: Mapping[str, Any]) -> str:
    """As ``name_of``, with the name by which configuration and decisions call it."""
    return name_of(row) if name_of(row) == row["guardrail"] else f"{name_of(row)} ({row['guardrail']})"


def seen(row: Mapping[str, Any]) -> tuple[str, str]:
    """What a guardrail's evidence was made of, in two short texts."""
    if "canary" in row:
        return tuple(_rate(who, row[who]) for who in ("canary", "stable"))  # type: ignore[return-value]
    n, mean = row.get("n", 0), row.get("mean")
    first = f"{n:,} {'labelled ' if row['guardrail'] == 'loss' else ''}pairs"
    if not n or mean is None:
        return first, ""
    return first, f"mean {mean:+.4f}" if row["guardrail"] == "loss" else f"mean {mean:.4f}"


def _rate(who: str, arm: Mapping[str, int]) -> str:
    share = f" {100 * arm['k'] / arm['n']:.2f} %" if arm.get("n") else ""
    return f"{who} {arm.get('k', 0):,}/{arm.get('n', 0):,}{share}"


def _checks(status: Mapping[str, Any]) -> Sequence[Text]:
    lines = []
    split = status.get("split")
    if split:
        wrong = split["log_e"] >= split["at"]
        text = f"split: E {number(split['log_e'])} of {number(split['at'])} that the proxy does not split as told"
        if split.get("n"):
            text += f"; the canary got {100 * split['mean']:.1f} % of {split['n']:,}, told {100 * split['told']:.1f} %"
        lines.append(Text(text, "bold red" if wrong else "dim"))
    labels = status.get("labels")
    if labels:
        lines.append(Text(labels, "dim"))
    return [Text(), *lines] if lines else []


def _event(event: Mapping[str, Any]) -> Text:
    parts = ((f"{event['time']}  ", "dim"), (f"{event['action']}: ", "bold"), str(event["reason"]))
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")
