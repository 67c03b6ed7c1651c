"""A plan for people: lines for a terminal, and one HTML page with the same numbers and their charts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from components.report import svg
from components.report.dag import clock
from seaway.spend import worth

_COLUMNS = ("scheduler", "time", "trials' cost", "nodes' cost", "best", "epochs", "stopped", "failed", "losses", "used")
_COLOURS = ("blue", "orange", "green", "red")
_STYLE = Path(svg.__file__).with_name("style.css")


def lines(plan: dict[str, Any]) -> list[str]:
    """A table: a line a scheduler with the middle, and below it the edges of time and cost."""
    rows = [_COLUMNS, *(_row(name, found) for name, found in plan["schedulers"].items())]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
    made = [about(plan), ""]
    for row in rows:
        cells = [
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        made.append("  ".join(cells).rstrip())
    made += ["", "In 9 of 10 simulated sweeps:"]
    for name, found in plan["schedulers"].items():
        edges = [_edges("time", found["seconds"], clock), _edges("best", found["best"], lambda v: f"{v:.4f}")]
        edges += [_edges(what, found[key], worth) for what, key in (("trials", "trials_usd"), ("nodes", "nodes_usd"))]
        made.append(f"  {name}: {'; '.join(filter(None, edges))}")
    return made


def about(plan: dict[str, Any]) -> str:
    fleet = plan["fleet"]
    lost = f", each lost after {fleet['loss'] / 3600:.3g} h on average" if fleet["loss"] else ""
    priced = f"; prices: {plan['prices']}" if plan["prices"] else "; no prices are set (section budget)"
    return (
        f"{plan['trials']:,} trials, {fleet['slots']} at a time on {plan['nodes']} nodes{lost}; "
        f"{plan['seeds']} simulated sweeps each, from {plan['measured']} measured trials{priced}"
    )


def page(plan: dict[str, Any]) -> str:
    """One HTML file that needs nothing else."""
    head = "".join(f"<th>{escape(name)}</th>" for name in _COLUMNS)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in _row(name, found))}</tr>"
        for name, found in plan["schedulers"].items()
    )
    colours = "".join(
        f".line.s{i}{{stroke:var(--{c});fill:none;stroke-width:2}}.who.s{i}{{color:var(--{c})}}"
        for i, c in enumerate(_COLOURS)
    )
    keys = " ".join(f'<b class="who s{i}">{escape(name)}</b>' for i, name in enumerate(plan["schedulers"]))
    bars = [
        f"<h3>{escape(title)}</h3>{_bars(plan, key, scale)}"
        for title, key, scale in (
            ("Hours", "seconds", 3600.0),
            ("Cost of nodes, USD", "nodes_usd", 1.0),
            ("Hours of trials", "slot_hours", 1.0),
        )
        if all(found[key] for found in plan["schedulers"].values())
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Plan of a sweep</title>'
        f"<style>{_STYLE.read_text()}{colours}</style></head><body><header><p class='eyebrow'>Plan</p>"
        f"<h1>A sweep before it is paid for</h1><p class='lead'>{escape(about(plan))}</p></header><main>"
        f"<section><h2>By scheduler</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></section>"
        f"<section><h2>Best so far</h2><p>{keys}</p>{_race(plan)}</section>"
        f"<section><h2>Edges</h2><p>5 and 95 in 100 simulated sweeps stay below the ends; the dot is the middle.</p>"
        f"{''.join(bars)}</section></main></body></html>"
    )


def _row(name: str, found: dict[str, Any]) -> tuple[str, ...]:
    usd = (worth(found[key][1]) if found[key] else "–" for key in ("trials_usd", "nodes_usd"))
    best = f"{found['best'][1]:.4f}" if found["best"] else "–"
    counts = (f"{found[key][1]:,.0f}" for key in ("epochs", "stopped", "failed", "losses"))
    return (name, clock(found["seconds"][1]), *usd, best, *counts, f"{found['used'][1]:.0%}")


def _edges(what: str, found: Sequence[float] | None, say: Any) -> str:
    return f"{what} {say(found[0])} to {say(found[2])}" if found else ""


def _race(plan: dict[str, Any]) -> Markup:
    paths = {name: found["path"] for name, found in plan["schedulers"].items() if found["path"]}
    points = [point for path in paths.values() for point in path]
    if not points:
        return Markup("")
    values = [value for _, value in points]
    pad = (max(values) - min(values)) * 0.06 or 0.01
    hours = max(seconds for seconds, _ in points) / 3600
    plot = svg.Plot(
        "best value so far by hours, by scheduler",
        (0, hours),
        (min(values) - pad, max(values) + pad),
        width=900,
        height=320,
        class_="plot wide",
    ).axes("hours", plan["metric"].replace("_", " "))
    for i, (name, path) in enumerate(paths.items()):
        xs, ys = [seconds / 3600 for seconds, _ in path], [value for _, value in path]
        plot.line(xs, ys, f"s{i}", step=True)
        plot.hover(xs, ys, [f"{name}\n{x:.2f} h\n{y:.4f}" for x, y in zip(xs, ys, strict=True)])
    return plot.svg()


def _bars(plan: dict[str, Any], key: str, scale: float) -> Markup:
    """A row a scheduler: a line from the low to the high edge, and a dot at the middle."""
    rows = {name: [value / scale for value in found[key]] for name, found in plan["schedulers"].items()}
    top = max(high for _, _, high in rows.values()) or 1.0
    plot = svg.Plot(
        f"{key} by scheduler",
        (0, top),
        (0, len(rows)),
        width=900,
        height=60 + 34 * len(rows),
        left=90,
        class_="plot wide",
    ).axes(y_ticks=[])
    for i, (name, (low, middle, high)) in enumerate(rows.items()):
        y = len(rows) - i - 0.5
        plot.text(80, plot.sy(y) + 4, name, "label", "end")
        plot.line([low, high], [y, y], f"s{i}")
        plot.dot(middle, y, f"s{i}", tip=f"{name}\n{low:.3g} to {high:.3g}, middle {middle:.3g}")
    return plot.svg()
