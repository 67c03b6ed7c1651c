"""The pipeline drawn as the graph that it is: layers from left to right, skipped steps marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from components.report.svg import tag

NODE, ROW, GAP, TALL = 104, 86, 26, 62

# What each step reads, for runs whose record does not say it.
NEEDS: dict[str, tuple[str, ...]] = {
    "validate": ("ingest",),
    "features": ("validate",),
    "dataset": ("features",),
    "tune": ("dataset",),
    "train": ("dataset", "tune"),
    "evaluate": ("dataset", "train"),
    "register": ("train", "evaluate"),
    "release": ("evaluate", "register"),
    "start": ("features", "release"),
}
GLYPH = {"done": "●", "running": "●", "skipped": "○", "failed": "✕", "not run": "·"}


def needs(steps: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Step -> the steps before it, as recorded (``needs``) or by the usual order; unknown names are dropped."""
    names = [str(s["name"]) for s in steps]
    found = {}
    for i, step in enumerate(steps):
        before = step.get("needs") or NEEDS.get(names[i], names[i - 1 : i])
        found[names[i]] = [b for b in before if b in names[:i]]
    return found


def dag(steps: Sequence[Mapping[str, Any]]) -> Markup:
    """``steps``: name, status (done, skipped, failed), seconds, in an order in which they could run."""
    before = needs(steps)
    layer: dict[str, int] = {}
    for name, parents in before.items():
        layer[name] = 1 + max((layer[p] for p in parents), default=-1)
    rows: dict[str, int] = {}
    taken: dict[int, int] = {}
    for name, depth in layer.items():
        rows[name] = taken[depth] = taken.get(depth, -1) + 1
    arcs = [(p, n) for n, parents in before.items() for p in parents if layer[n] - layer[p] > 1 and rows[n] == rows[p]]
    head = 16 + 13 * max((layer[n] - layer[p] for p, n in arcs), default=0)
    width = (max(layer.values()) + 1) * (NODE + GAP) - GAP + 4
    height = head + (max(taken.values()) + 1) * ROW

    def corner(name: str) -> tuple[float, float]:
        return 2.0 + layer[name] * (NODE + GAP), float(head + rows[name] * ROW)

    marks = [_edge(corner(p), corner(n), (p, n) in arcs, layer[n] - layer[p]) for n, ps in before.items() for p in ps]
    longest = max((float(s.get("seconds") or 0) for s in steps), default=0) or 1.0
    marks += [_node(step, *corner(str(step["name"])), longest) for step in steps]
    return tag(
        "svg",
        Markup("").join(marks),
        viewBox=f"0 0 {width} {height}",
        class_="plot dag",
        role="img",
        style=f"min-width:{int(width * 0.82)}px",
        aria_label="the pipeline's steps and what each needs",
    )


def _edge(start: tuple[float, float], end: tuple[float, float], arc: bool, span: int) -> Markup:
    if arc:  # over the steps in between
        x0, x1, y, lift = start[0] + NODE * 0.7, end[0] + NODE * 0.3, start[1], 18 * span
        path = f"M{x0:.0f} {y:.0f}C{x0 + 24:.0f} {y - lift:.0f} {x1 - 24:.0f} {y - lift:.0f} {x1:.0f} {y:.0f}"
    else:
        x0, y0, x1, y1 = start[0] + NODE, start[1] + TALL / 2, end[0], end[1] + TALL / 2
        path = f"M{x0:.0f} {y0:.0f}C{x0 + GAP / 2:.0f} {y0:.0f} {x1 - GAP / 2:.0f} {y1:.0f} {x1:.0f} {y1:.0f}"
    return tag("path", class_="edge", d=path)


def _node(step: Mapping[str, Any], x: float, y: float, longest: float) -> Markup:
    status = str(step.get("status", "not run"))
    seconds = float(step.get("work_seconds" if status == "skipped" else "seconds") or 0)
    glyph = GLYPH.get(status, "●")
    timed = status == "done" or (status == "skipped" and seconds > 0)
    parts = [
        tag("rect", class_="node", x=x, y=y, width=NODE, height=TALL, rx=8),
        tag("text", str(step["name"]), class_="name", x=x + 11, y=y + 23),
        tag("text", f"{glyph} {clock(seconds) if timed else status}", class_="state", x=x + 11, y=y + 42),
    ]
    if status == "done":
        length = max(2.0, (NODE - 22) * min(1.0, seconds / longest))
        parts.append(tag("rect", class_="share", x=x + 11, y=y + 51, width=length, height=3, rx=1.5))
    tip = f"{step['name']}: {status}, {clock(seconds)}\n{step.get('reason') or ''}".strip()
    class_ = "step " + (status if status in GLYPH else "not-run").replace(" ", "-")
    return tag("g", Markup("").join(parts), class_=class_, data_tip=tip)


def clock(seconds: float) -> str:
    """A duration for people: 0.4 s, 12 s, 3 min 05 s, 2 h 10 min."""
    if 0 < seconds < 0.05:
        return "< 0.1 s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
