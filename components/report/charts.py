"""The report's charts: each function takes plain numbers and gives one inline SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from components.report.svg import Plot, Scale, Times, short, ticks

Points = tuple[Sequence[float], Sequence[float]]
_LN10 = math.log(10)
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def curve(kind: str, series: Mapping[str, Points]) -> Markup:
    """ROC, precision-recall or calibration curves by model; both axes run from 0 to 1 (calibration: to its data)."""
    labels = {
        "roc": ("false positive rate", "true positive rate"),
        "pr": ("recall", "precision"),
        "calibration": ("mean predicted probability", "observed share"),
    }[kind]
    top = 1.0
    if kind == "calibration":
        top = max([0.05, *(max((*xs, *ys), default=0.0) for xs, ys in series.values())])
        top = min(1.0, math.ceil(top * 10 + 0.01) / 10)
    plot = Plot(f"{kind} curves of {', '.join(series)}", (0, top), (0, top)).axes(*labels)
    if kind != "pr":
        plot.line([0, top], [0, top], "reference")
    for who in sorted(series, key=lambda name: name == "candidate"):  # the candidate is drawn last, on top
        xs, ys = series[who]
        plot.line(xs, ys, who)
        if kind == "calibration":
            for x, y in zip(xs, ys, strict=True):
                plot.dot(x, y, who)
        plot.hover(xs, ys, [f"{who}\n{labels[0]} {x:.3f}\n{labels[1]} {y:.3f}" for x, y in zip(xs, ys, strict=True)])
    return plot.svg()


def learning(trials: Mapping[str, Points], best: str, metric: str, classes: Mapping[str, str]) -> Markup:
    """The metric by epoch, one line a trial in its class; ``best`` names the trial that stands out."""
    xs = [x for points in trials.values() for x in points[0]]
    ys = [y for points in trials.values() for y in points[1]]
    low, high = min(ys), max(ys)
    pad = (high - low) * 0.06 or 0.01
    plot = Plot(f"{metric} by epoch for {len(trials)} trials", (min(xs), max(xs) + 0.01), (low - pad, high + pad))
    every = sorted({round(x) for x in ticks(min(xs), max(xs), 6)})
    plot.axes("epoch", metric.replace("_", " "), x_ticks=every)
    for name in sorted(trials, key=lambda name: name == best):
        points = trials[name]
        class_ = "candidate strong" if name == best else f"{classes[name]} other"
        plot.line(*points, class_)
        plot.dot(points[0][-1], points[1][-1], class_, radius=3)
        tips = [f"trial {name}\nepoch {x:g}: {y:.4f}" for x, y in zip(*points, strict=True)]
        plot.hover(*points, tips, most=20)
    return plot.svg()


def parallel(rows: Sequence[Mapping[str, Any]], axes: Sequence[str], best: str, metric: str) -> Markup:
    """Parallel coordinates: one line a trial over its parameters and, last, the metric, which colours it.

    Numeric axes are linear, or logarithmic where the values span a factor of 30; words get even places.
    """
    columns = [*axes, metric]
    gap = 150
    plot = Plot(
        f"{len(rows)} trials: {', '.join(axes)} and {metric}",
        (0, len(columns) - 1),
        (0, 1),
        width=max(1080, gap * (len(columns) - 1) + 152),
        height=300,
        left=76,
        right=76,
        top=34,
        bottom=26,
        class_="plot wide",
    )
    places, marks = {}, {}
    for i, name in enumerate(columns):
        places[name], marks[name] = axis_of([row[name] for row in rows])
        plot.add("line", class_="axis", x1=plot.sx(i), x2=plot.sx(i), y1=plot.top, y2=plot.height - plot.bottom)
        plot.text(plot.sx(i), 16, name.replace("_", " "), "label axisname", "middle")
    scores = [row[metric] for row in rows]
    spread = Scale(min(scores), max(scores), 0, 100)
    for row in sorted(rows, key=lambda row: (row["trial"] == best, row[metric])):
        strong = row["trial"] == best
        lines = [f"trial {row['trial']}{' (best)' if strong else ''}", *(f"{c}: {word(row[c])}" for c in columns)]
        xs = [plot.sx(i) for i in range(len(columns))]
        ys = [plot.sy(places[c](row[c])) for c in columns]
        path = f"M{xs[0]:.1f} {ys[0]:.1f}"
        for (x0, y0), (x1, y1) in zip(zip(xs, ys, strict=True), list(zip(xs, ys, strict=True))[1:], strict=False):
            bend = (x1 - x0) * 0.4
            path += f"C{x0 + bend:.1f} {y0:.1f} {x1 - bend:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"
        plot.add(
            "path",
            class_="line heat strong" if strong else "line heat",
            d=path,
            data_tip="\n".join(lines),
            style=f"--heat:{spread(row[metric]):.0f}%",
        )
    for i, name in enumerate(columns):  # the words last, so that no line hides them
        side, anchor = (8, "start") if i == len(columns) - 1 else (-8, "end")
        for place, words in marks[name]:
            x, y = plot.sx(i), plot.sy(place)
            plot.add("line", class_="tickmark", x1=x - 3, x2=x + 3, y1=y, y2=y)
            plot.text(x + side, y + 3.5, words, "tick halo", anchor)
    return plot.svg()


def word(value: Any) -> str:
    return short(float(value)) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def axis_of(values: Sequence[Any]) -> tuple[Callable[[Any], float], list[tuple[float, str]]]:
    """Where a value stands on an axis from 0 to 1, and the axis's tick marks (place, words)."""
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    kinds = sorted(set(values), key=lambda v: v if numeric else str(v))
    if not numeric or len(kinds) <= 4:  # few different values: even places, each with its own mark
        spot = {v: 0.5 if len(kinds) == 1 else 0.04 + 0.92 * i / (len(kinds) - 1) for i, v in enumerate(kinds)}
        return spot.__getitem__, [(p, word(v)) for v, p in spot.items()]
    log = kinds[0] > 0 and kinds[-1] / kinds[0] >= 30
    turn = math.log10 if log else float
    scale = Scale(turn(kinds[0]), turn(kinds[-1]), 0.04, 0.96)
    marks = ticks(kinds[0], kinds[-1], 4)
    if log:
        powers = range(math.floor(scale.low), math.ceil(scale.high) + 1)
        marks = [m * 10.0**p for p in powers for m in (1, 3) if kinds[0] <= m * 10.0**p <= kinds[-1]]
    return (lambda v: scale(turn(v))), [(scale(turn(m)), short(m)) for m in marks]


def whiskers(rows: Sequence[tuple[str, float, float, float]], low: float, high: float, zero: bool = False) -> Markup:
    """Values with their intervals on one line each, for a table's cell: (class, value, low, high)."""
    height = 9 * len(rows) + 7
    plot = Plot(
        "intervals", (low, high), (0, 1), width=190, height=height, left=5, right=5, top=0, bottom=0, class_="cell"
    )
    if zero:
        plot.add("line", class_="rule reference", x1=plot.sx(0), x2=plot.sx(0), y1=0, y2=height)
    for i, (class_, value, start, end) in enumerate(rows):
        y = 8 + 9 * i
        plot.add("line", class_=f"line {class_}", x1=plot.sx(start), x2=plot.sx(end), y1=y, y2=y)
        plot.add("circle", class_=f"dot {class_}", cx=plot.sx(value), cy=y, r=3.5)
    return plot.svg()


def evidence(
    name: str,
    times: Sequence[float],
    lines: Mapping[str, tuple[Sequence[float], float | None]],
    axis: Times,
    tips: Sequence[str],
) -> Markup:
    """One guardrail's evidence over seconds, on a log scale.

    ``lines``: by side ("promote", "rollback"), natural logs of E and of its threshold. The scale ends at 10^-3 and
    just above what is needed; what lies beyond is drawn at its edge.
    """
    tens = {side: [v / _LN10 for v in values] for side, (values, _) in lines.items()}
    bounds = {side: limit / _LN10 for side, (_, limit) in lines.items() if limit is not None}
    every = [v for values in tens.values() for v in values]
    top = min(6.0, math.ceil(max([1.0, *every, *bounds.values()])))
    top = max(top, math.ceil(max([1.0, *bounds.values()]) + 0.4))
    bottom = max(-3.0, math.floor(min([-1.0, *every])))
    plot = Plot(f"evidence on {name} over time", axis.span, (bottom, top), height=230, width=400, left=46)
    _stages(plot, axis, (bottom, top))
    marks = [k for k in range(int(bottom), int(top) + 1) if top - bottom <= 6 or k % 2 == 0]
    plot.axes(axis.label, "E", x_ticks=axis.ticks, x_format=axis.said, y_ticks=marks, y_format=_power)
    plot.level(0, "reference")
    xs = [axis(t) for t in times]
    for side, limit in bounds.items():
        word = {"promote": "promote", "rollback": "roll back"}[side] if len(lines) > 1 else "alarm"
        plot.level(limit, side, f"{word} at {short(round(10**limit, 1))}")
    for side in sorted(tens, reverse=True):  # promote last, on top
        plot.line(xs, tens[side], side)
        plot.dot(xs[-1], tens[side][-1], side)
    for values in tens.values():
        plot.hover(xs, values, tips, most=40)
    return plot.svg()


def _stages(plot: Plot, axis: Times, heights: tuple[float, float]) -> None:
    """The second stage's background, where there are two stages."""
    if axis.turn is not None:
        plot.box(axis(axis.turn), axis.span[1], *heights, "stage")


def _power(k: float) -> str:
    return {0: "1", 1: "10", 2: "100", 3: "1,000", -1: "0.1", -2: "0.01", -3: "0.001"}.get(
        int(k), "10" + str(int(k)).translate(_RAISED)
    )


def weights(times: Sequence[float], canary: Sequence[float], axis: Times) -> Markup:
    """The canary's share of traffic over seconds, as steps that hold until the next write."""
    plot = Plot(
        "canary weight over time", axis.span, (0, 100), height=130, width=860, left=46, bottom=40, class_="plot wide"
    )
    _stages(plot, axis, (0, 100))
    plot.axes(axis.label, "canary %", axis.ticks, [0, 25, 50, 75, 100], x_format=axis.said, y_format=lambda v: f"{v:g}")
    xs = [axis(t) for t in times]
    ends = [*xs[1:], axis.span[1]]
    for start, end, share in zip(xs, ends, canary, strict=True):
        if share > 0:
            tip = f"{axis.moment(start)} to {axis.moment(end)}\ncanary {share:g} %"
            plot.box(start, end, 0, share, "area", tip=tip)
    plot.line([*xs, axis.span[1]], [*canary, canary[-1]], "candidate", step=True)
    return plot.svg()
