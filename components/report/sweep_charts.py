"""The sweep's charts beside those of charts.py: parameters against the objective, and where time and money went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from components.report.charts import axis_of, word
from components.report.svg import Plot, words

STATUSES = {"finished": "finished", "stopped early": "stopped", "failed": "failed", "ended": "ended"}  # -> CSS class


def class_of(status: Any) -> str:
    return STATUSES.get(str(status), "finished")


def scatter(rows: Sequence[Mapping[str, Any]], name: str, metric: str, best: str) -> Markup:
    """The metric against one parameter, a dot a trial; equal values stand beside each other."""
    place, marks = axis_of([row[name] for row in rows])
    scores = [row[metric] for row in rows]
    low, high = min(scores), max(scores)
    pad = (high - low) * 0.08 or 0.01
    plot = Plot(
        f"{metric} by {name}, {len(rows)} trials", (0, 1), (low - pad, high + pad), width=300, height=210, left=46
    )
    said = dict(marks)
    plot.axes(words(name), "", list(said), x_format=said.__getitem__)
    taken: dict[float, int] = {}
    for row in sorted(rows, key=lambda row: (row["trial"] == best, row[metric])):
        x = place(row[name])
        n = taken[x] = taken.get(x, -1) + 1
        beside = ((n + 1) // 2) * (1 if n % 2 else -1) * 0.012 if len(marks) <= 4 else 0.0
        strong = row["trial"] == best
        tip = f"trial {row['trial']}{' (best)' if strong else ''}, {row['status']}\n{name}: {word(row[name])}"
        tip += f"\n{metric}: {row[metric]:.4f}"
        class_ = "candidate" if strong else class_of(row["status"])
        at = min(1.0, max(0.0, x + beside))
        plot.dot(at, row[metric], f"{class_} ring" if strong else class_, radius=5 if strong else 3.6, tip=tip)
    return plot.svg()


def parts(title: str, shares: Sequence[tuple[str, str, float, str]]) -> Markup:
    """One bar cut in parts: (CSS class, name, amount, words for it), amounts of one unit."""
    whole = sum(amount for _, _, amount, _ in shares) or 1.0
    plot = Plot(title, (0, whole), (0, 1), width=560, height=38, left=2, right=2, top=4, bottom=4)
    start = 0.0
    for class_, name, amount, said in shares:
        if amount <= 0:
            continue
        tip = f"{name}: {said}\n{amount / whole:.0%}"
        plot.box(start, start + amount, 0, 1, f"part {class_}", tip=tip)
        if amount / whole > 0.12:
            plot.text(plot.sx(start) + 6, 24, f"{amount / whole:.0%}", f"inside {class_}")
        start += amount
    return plot.svg()
