"""A small plotting surface that writes inline SVG: scales, axes and marks.

Marks carry CSS classes and no colours, so one drawing follows the page's light and dark themes, and
every text passes through the escaping of ``markupsafe``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from markupsafe import Markup, escape


def short(value: float) -> str:
    """A number for an axis or a table: at most four significant digits, no trailing zeros."""
    if value != value or math.isinf(value):
        return "–"
    if value == 0:
        return "0"
    if abs(value) >= 10_000:
        return f"{value:,.0f}"
    if abs(value) < 0.001:
        return f"{value:.1e}"
    text = f"{value:.4g}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def words(name: str) -> str:
    """A metric's or column's name for people."""
    return name.replace("_", " ").replace("auc roc", "AUC ROC")


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) that lie within [low, high]."""
    if not high > low:
        return [low]
    raw = (high - low) / about
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def tag(name: str, body: Markup | str = "", /, **attributes: object) -> Markup:
    """One element; ``class_`` and ``data_tip`` style names become ``class`` and ``data-tip``; None is left out."""
    pairs = ((key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items() if value is not None)
    text = Markup("").join(Markup(' {}="{}"').format(key, _plain(value)) for key, value in pairs)
    return Markup("<{}{}>{}</{}>").format(name, text, body, name)


def _plain(value: object) -> object:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


@dataclass(frozen=True)
class Scale:
    """A linear map from data [low, high] to pixels [start, end]; values outside are held at the edges."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        if self.high == self.low:
            return (self.start + self.end) / 2
        share = min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))
        return self.start + share * (self.end - self.start)


class Times:
    """A release's time axis, from seconds to places; with a second stage each stage gets half of it.

    Stages may differ in length a thousandfold (minutes of traffic, days of labels), so each has its own unit.
    """

    _UNITS = ((86_400.0, "d", 3 * 86_400), (3_600.0, "h", 3 * 3_600), (60.0, "min", 300), (1.0, "s", 0))

    def __init__(self, first: float, last: float, turn: float | None = None) -> None:
        self.turn = turn if turn is not None and first < turn < last else None
        edges = [first, last] if self.turn is None else [first, self.turn, last]
        self.parts = list(pairwise(edges))
        self.span = (0.0, float(len(self.parts)))
        self.units = [next((s, w) for s, w, least in self._UNITS if b - a >= least) for a, b in self.parts]
        self._said = {}
        for i, ((a, b), (size, word)) in enumerate(zip(self.parts, self.units, strict=True)):
            start = a if i else 0.0  # the second stage counts from its own beginning
            for value in ticks((a - start) / size, (b - start) / size, 7 - 3 * (len(self.parts) - 1)):
                if i == 0 or value > 0:
                    mixed = len({word for _, word in self.units}) > 1 or i
                    text = f"{'+' if i else ''}{short(value)}{' ' + word if mixed else ''}"
                    self._said[self(start + value * size)] = text
        self.ticks = list(self._said)
        self.label = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days"}[self.units[0][1]]
        if len(self.parts) > 1:
            self.label = f"{self.label}, then since provisional"

    def __call__(self, seconds: float) -> float:
        i = 0 if len(self.parts) == 1 or seconds <= self.parts[0][1] else 1
        a, b = self.parts[i]
        return i + min(1.0, max(0.0, (seconds - a) / (b - a)))

    def said(self, place: float) -> str:
        return self._said[place]

    def moment(self, place: float) -> str:
        """A place as a time, in words."""
        i = min(int(place), len(self.parts) - 1)
        (a, b), (size, word) = self.parts[i], self.units[i]
        start, after = (0.0, " after") if i else (a, "")  # the second stage counts from its own beginning
        return f"{short((start + (place - i) * (b - a)) / size)} {word}{after}"


@dataclass
class Plot:
    """A chart of data ``x`` and ``y`` ranges on a canvas of ``width`` by ``height`` user units."""

    title: str  # read aloud by screen readers
    x: tuple[float, float]
    y: tuple[float, float]
    width: float = 420
    height: float = 290
    left: float = 50
    right: float = 14
    top: float = 12
    bottom: float = 42
    class_: str = "plot"
    marks: list[Markup] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sx = Scale(*self.x, self.left, self.width - self.right)
        self.sy = Scale(*self.y, self.height - self.bottom, self.top)

    def add(self, name: str, body: Markup | str = "", /, **attributes: object) -> None:
        self.marks.append(tag(name, body, **attributes))

    def axes(
        self,
        x_label: str = "",
        y_label: str = "",
        x_ticks: Sequence[float] | None = None,
        y_ticks: Sequence[float] | None = None,
        x_format: Callable[[float], str] = short,
        y_format: Callable[[float], str] = short,
    ) -> Plot:
        """Grid lines, tick labels and axis titles."""
        floor = self.height - self.bottom
        for value in ticks(*self.y) if y_ticks is None else y_ticks:
            y = self.sy(value)
            self.add("line", class_="grid", x1=self.left, x2=self.width - self.right, y1=y, y2=y)
            self.text(self.left - 7, y + 3.5, y_format(value), "tick", "end")
        for value in ticks(*self.x) if x_ticks is None else x_ticks:
            x = self.sx(value)
            self.add("line", class_="tickmark", x1=x, x2=x, y1=floor, y2=floor + 4)
            self.text(x, floor + 16, x_format(value), "tick", "middle")
        self.add("line", class_="axis", x1=self.left, x2=self.width - self.right, y1=floor, y2=floor)
        if x_label:
            self.text((self.left + self.width - self.right) / 2, self.height - 6, x_label, "label", "middle")
        if y_label:
            middle = (self.top + floor) / 2
            self.text(13, middle, y_label, "label", "middle", transform=f"rotate(-90 13 {middle:g})")
        return self

    def text(
        self, x: float, y: float, said: object, class_: str = "tick", anchor: str = "start", **more: object
    ) -> None:
        self.add("text", escape(said), class_=class_, x=float(x), y=float(y), text_anchor=anchor, **more)

    def line(
        self, xs: Iterable[float], ys: Iterable[float], class_: str, *, step: bool = False, tip: str | None = None
    ) -> None:
        """A line through the points; with ``step`` each value holds until the next point."""
        points = [(self.sx(a), self.sy(b)) for a, b in zip(xs, ys, strict=True)]
        if not points:
            return
        path = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
        for px, py in points[1:]:
            path.append(f"H{px:.1f}V{py:.1f}" if step else f"L{px:.1f} {py:.1f}")
        self.add("path", class_=f"line {class_}", d="".join(path), data_tip=tip)

    def dot(self, x: float, y: float, class_: str, *, radius: float = 3.5, tip: str | None = None) -> None:
        self.add("circle", class_=f"dot {class_}", cx=self.sx(x), cy=self.sy(y), r=radius, data_tip=tip)

    def hover(self, xs: Sequence[float], ys: Sequence[float], tips: Sequence[str], most: int = 60) -> None:
        """Invisible places that answer to the pointer, at most ``most`` of them along the points."""
        every = max(1, math.ceil(len(xs) / most))
        for i in range(0, len(xs), every):
            self.dot(xs[i], ys[i], "hit", radius=7.0, tip=tips[i])

    def box(
        self, x0: float, x1: float, y0: float, y1: float, class_: str, *, tip: str | None = None, **more: object
    ) -> None:
        """A filled rectangle between two data corners."""
        a, b = sorted((self.sx(x0), self.sx(x1)))
        c, d = sorted((self.sy(y0), self.sy(y1)))
        self.add("rect", class_=class_, x=a, y=c, width=max(b - a, 0.5), height=max(d - c, 0.5), data_tip=tip, **more)

    def level(self, y: float, class_: str, said: str = "") -> None:
        """A horizontal rule at a value, with words at its left end, where lines have not yet climbed."""
        self.add(
            "line", class_=f"rule {class_}", x1=self.left, x2=self.width - self.right, y1=self.sy(y), y2=self.sy(y)
        )
        if said:
            self.text(self.left + 6, self.sy(y) - 4, said, f"tick {class_}")

    def mark(self, x: float, class_: str, said: str = "") -> None:
        """A vertical rule at a value, with words at its top."""
        self.add(
            "line", class_=f"rule {class_}", x1=self.sx(x), x2=self.sx(x), y1=self.top, y2=self.height - self.bottom
        )
        if said:
            self.text(self.sx(x) + 4, self.top + 9, said, f"tick {class_}")

    def svg(self) -> Markup:
        """The whole drawing; it scales with the width of its container."""
        return tag(
            "svg",
            Markup("").join(self.marks),
            viewBox=f"0 0 {self.width:g} {self.height:g}",
            class_=self.class_,
            role="img",
            aria_label=self.title,
        )
