"""The sweep in pictures: who promotes what, how soon we decide, and how soon labels do."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.canary.cells import CAP, EDGE, RATES, TRUTHS
from benchmarks.canary.competitors import RIVALS
from benchmarks.canary.gates import ALPHA, PROMOTED, ROLLED_BACK, Ours
from benchmarks.canary.labels import HORIZON, Verdicts
from benchmarks.canary.tally import Tally

_COLOURS = ("#0b6e4f", "#c44536", "#e79a8f", "#3a6ea5", "#9dbde0", "#7d5ba6", "#b08900", "#6b6b6b")


def draw(folder: Path, tallies: list[Tally], found: list[Verdicts]) -> list[Path]:
    """Writes canary-promoted.svg, canary-time.svg and canary-labels.svg; the same numbers give the same bytes."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {
        "svg.hashsalt": "seaway",
        "svg.fonttype": "none",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
    }
    folder.mkdir(parents=True, exist_ok=True)
    plain = [t for t in tallies if t.cell.scenario == "plain"]
    made = [_promoted(folder / "canary-promoted.svg", plain), _time(folder / "canary-time.svg", plain)]
    return [*made, _labels(folder / "canary-labels.svg", found)] if found else made


def _promoted(path: Path, plain: list[Tally]) -> Path:
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(RATES), figsize=(10, 3.4), sharey=True, layout="constrained")
    for panel, rate in zip(panels, RATES, strict=True):
        for gate, colour in zip([Ours.name, *(g.name for g in RIVALS)], _COLOURS, strict=True):
            points = {t.cell.truth: t for t in plain if t.cell.rate == rate and t.gate == gate}
            shares = [100 * points[p].count(PROMOTED) / points[p].runs for p in TRUTHS]
            own = gate == Ours.name
            style = {"lw": 2.4, "zorder": 5} if own else {"lw": 1.1}
            panel.plot([100 * p for p in TRUTHS], shares, "o-", ms=4 if own else 3, color=colour, label=gate, **style)
        panel.axvline(100 * EDGE, color="#999", lw=0.8, ls=":")
        panel.axhline(100 * ALPHA, color="#999", lw=0.8, ls=":")
        panel.set(
            title=f"{rate} requests/s", xlabel="canary's error rate, % (stable: 0.5)", xticks=[100 * p for p in TRUTHS]
        )
    panels[0].set_ylabel("promoted, %")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, fontsize=8)
    return _saved(figure, path)


def _time(path: Path, plain: list[Tally]) -> Path:
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(RATES), figsize=(10, 2.8), sharey=True, layout="constrained")
    minutes = np.arange(CAP + 1)
    for panel, rate in zip(panels, RATES, strict=True):
        for truth, colour in zip(TRUTHS, ("#0b6e4f", "#b08900", "#c44536", "#5c1a1b"), strict=True):
            t = next(t for t in plain if (t.gate, t.cell.rate, t.cell.truth) == (Ours.name, rate, truth))
            for verdict, line in ((PROMOTED, "-"), (ROLLED_BACK, "--")):
                ends = np.sort(t.result.minute[t.result.verdict == verdict])
                shares = 100 * np.searchsorted(ends, minutes, side="right") / t.runs
                label = f"{100 * truth:.1f} %" if verdict == PROMOTED else None
                panel.plot(minutes, shares, line, color=colour, lw=1.6, label=label)
        panel.set(title=f"{rate} requests/s", xlabel="minutes", xlim=(0, {1: 240, 10: 60, 100: 20}[rate]))
    panels[0].set_ylabel("— promoted, - - rolled back, %")
    panels[-1].legend(title="canary's errors", fontsize=8)
    return _saved(figure, path)


def _labels(path: Path, found: list[Verdicts]) -> Path:
    import matplotlib.pyplot as plt

    kinds = list(dict.fromkeys(v.canary for v in found))
    figure, panels = plt.subplots(1, len(kinds), figsize=(10, 3.2), sharey=True, layout="constrained")
    days = np.linspace(0, HORIZON, 241)
    for panel, kind in zip(panels, kinds, strict=True):
        for v, colour in zip([v for v in found if v.canary == kind and not v.feed.complete], _COLOURS, strict=False):
            for verdict, line in ((PROMOTED, "-"), (ROLLED_BACK, "--")):
                ends = np.sort(v.day[v.verdict == verdict])
                shares = 100 * np.searchsorted(ends, days, side="right") / len(v.day)
                panel.plot(days, shares, line, color=colour, lw=1.4, label=v.feed.name if verdict == PROMOTED else None)
        panel.set(title=kind, xlabel="days", xlim=(0, HORIZON))
    panels[0].set_ylabel("— CONFIRMED, - - rolled back, %")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, fontsize=8)
    return _saved(figure, path)


def _saved(figure: object, path: Path) -> Path:
    import matplotlib.pyplot as plt

    figure.savefig(path, metadata={"Date": None})  # type: ignore[attr-defined]
    plt.close(figure)  # type: ignore[arg-type]
    return path
