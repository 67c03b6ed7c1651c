"""The protocol's result as a table for people, beside the published one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# mean over the four test folds: area under the ROC curve, average precision, card precision at 100
PUBLISHED = {
    "decision tree": (0.797, 0.579, 0.284),
    "logistic regression": (0.868, 0.623, 0.297),
    "random forest": (0.870, 0.678, 0.299),
    "XGBoost": (0.869, 0.687, 0.303),
    "feed-forward network": (0.876, 0.675, 0.303),
    "convolutional network": (0.872, 0.599, 0.288),
    "LSTM": (0.876, 0.665, 0.297),
    "LSTM with attention": (0.874, 0.667, 0.295),
}
# what each row has to reach, to three decimals
BARS = {
    "published-features": (0.876, 0.687, 0.303),
    "own-features": (None, 0.730, 0.309),
    "logistic-regression": (0.868, 0.623, 0.297),
}
NAMES = {
    "published-features": "ours: published features, 7 days",
    "own-features": "ours: own features, 28 days",
    "logistic-regression": "ours: logistic regression",
}
METRICS = ("auc_roc", "average_precision", "card_precision_at_100")
_HEAD = f"{'':36}{'AUC ROC':>15}{'average prec.':>16}{'card prec.@100':>16}"


def render(result: Mapping[str, Any]) -> str:
    """Plain text of ``workload.protocol.published``'s result; a value below its bar is marked."""
    ceiling = result["card_precision_ceiling"]
    lines = [f"{result['events']:,} events; four test folds of {', '.join(f'{n:,}' for n in result['assessed'])} rows"]
    lines += ["", _HEAD]
    for name, values in PUBLISHED.items():
        lines.append(f"{name:36}" + "".join(f"{v:>{w}.3f}" for v, w in zip(values, (9, 16, 16), strict=True)))
    missed = False
    for name in NAMES:
        if name not in result:
            continue
        cells = []
        for metric, bar in zip(METRICS, BARS[name], strict=True):
            low = bar is not None and round(result[name][metric], 3) < bar
            missed |= low
            cells.append(f"{result[name][metric]:.3f}±{result[name][metric + '_std']:.3f}{'*' if low else ' '}")
        lines.append(f"{NAMES[name]:36}" + "".join(f"{c:>{w}}" for c, w in zip(cells, (16, 16, 16), strict=True)))
    lines += ["", f"A perfect ranking would reach a card precision@100 of {ceiling:.3f}."]
    for name in NAMES:
        if name in result:
            reached = result[name]["card_precision_at_100"] / ceiling
            lines.append(f"  {NAMES[name]}: {reached:.0%} of it")
    if missed:
        lines.append("* below what this row is meant to reach: " + _bars())
    return "\n".join(lines)


def _bars() -> str:
    rows = (f"{n} {' / '.join('-' if v is None else f'{v:.3f}' for v in bar)}" for n, bar in BARS.items())
    return "; ".join(rows)
