"""Figures for the registry's page of a version: ROC, precision-recall and calibration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_COLOURS = {"candidate": "#1f6feb", "champion": "#8250df", "baseline": "#8c959f"}
_PANELS = (
    ("roc", "fpr", "tpr", "ROC", "false positive rate", "true positive rate"),
    ("pr", "recall", "precision", "Precision and recall", "recall", "precision"),
    ("calibration", "predicted", "observed", "Calibration", "predicted probability", "observed share"),
)


def draw(curves: dict[str, Any], file: Path) -> None:
    """Draw the evaluation's curves.json side by side into ``file`` (PNG)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    for n, (curve, x, y, title, across, up) in enumerate(_PANELS, start=1):
        axes = figure.add_subplot(1, 3, n)
        for model, colour in _COLOURS.items():
            points = (curves.get(model) or {}).get(curve)
            if points:
                marker = "o" if curve == "calibration" else ""
                axes.plot(points[x], points[y], color=colour, label=model, marker=marker, markersize=4)
        if curve != "pr":
            axes.plot([0, 1], [0, 1], color="#d0d7de", linewidth=1, linestyle="--")
        axes.set(title=title, xlabel=across, ylabel=up, xlim=(0, 1), ylim=(0, 1.02))
        axes.legend(frameon=False)
    FigureCanvasAgg(figure).print_png(str(file), metadata={"Software": None})
