"""A model card in Markdown: what the model is, from what it was made, how good it is, where it must not be used."""

from __future__ import annotations

from typing import Any


def model_card(
    name: str,
    version: str,
    *,
    model: dict[str, Any],
    metrics: dict[str, Any],
    verdict: dict[str, Any],
    segments: list[dict[str, Any]],
    lineage: dict[str, Any],
    slices: dict[str, Any] | None = None,
    slices_shown: int | None = None,
) -> str:
    """The card's text. ``model`` is the bundle's model.json; the others are evaluation's and lineage's records.

    ``slices_shown``: at the most as many slices with, and as many without a model of their own; None: all.
    """
    parts = [
        f"# {name}, version {version}\n\n{_what(model, slices)}",
        "## Data\n\n" + _pairs({k: lineage.get(k) for k in ("data_hash", "dataset_hash", "feature_hash")}),
        "## Metrics on held-out rows\n\n" + _metrics(metrics),
        "## Verdict\n\n" + _verdict(verdict),
        "## Segments\n\n" + _segments(segments),
        *(["## Slices\n\n" + _slices(slices, slices_shown)] if slices else []),
        "## Limits\n\n" + _limits(model, segments),
        "## Lineage\n\n" + _pairs(lineage),
    ]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _what(model: dict[str, Any], slices: dict[str, Any] | None) -> str:
    features = model.get("features", {})
    reasons = model.get("reasons", {})
    lines = [
        f"A model of the kind {model.get('kind', 'unknown')} for the workload {model.get('workload', '')}. It gives "
        f"the probability of the positive class; from {_number(model.get('threshold'))} on the decision is 1"
        + (", by the global model; a slice's own model has a threshold of its own." if slices else "."),
        "",
        f"A caller sends {', '.join(features.get('inputs', [])) or 'nothing'}. The {len(reasons)} inputs of the model "
        f"({features.get('version', 'unnamed')}): {', '.join(reasons.values())}.",
        "",
        "Parameters:",
        "",
        _pairs(model.get("params", {})),
    ]
    return "\n".join(lines)


def _metrics(metrics: dict[str, Any]) -> str:
    columns = [c for c in ("candidate", "baseline", "champion") if metrics.get(c)]
    names = list(dict.fromkeys(n for c in columns for n in metrics[c]))
    if not names:
        return "None were measured."
    rows = [[name, *(_interval(metrics[c].get(name)) for c in columns)] for name in names]
    return _table(["metric", *columns], rows) + "\n\nIn brackets: bootstrap intervals."


def _verdict(verdict: dict[str, Any]) -> str:
    reasons = "".join(f"\n- {reason}" for reason in verdict.get("reasons", []))
    return f"**{verdict.get('verdict', 'unknown')}**" + (f"\n{reasons}" if reasons else "")


def _segments(segments: list[dict[str, Any]]) -> str:
    if not segments:
        return "None were compared."
    keys = ("segment", "group", "rows", "positives", "candidate", "champion")
    rows = [[_number(s.get(k)) for k in keys] + ["yes" if s.get("enough") else "no"] for s in segments]
    return _table([*keys, "enough rows"], rows)


def _slices(slices: dict[str, Any], shown: int | None) -> str:
    """Which values are served by a model of their own, and why the others fall back."""
    by = {kept: [part for part in slices["slices"] if part["kept"] is kept] for kept in (True, False)}
    lines = [
        f"Rows are routed by {slices['by']}: {len(by[True])} values have a model of their own, {len(by[False])} fall "
        "back to the global model, and so does every value that is not named here."
    ]
    if slices.get("routed") is not None and slices.get("global") is not None:
        lines.append(
            f"{slices['metric']} on all held-out rows: {_number(slices['routed'])}, by the global model alone "
            f"{_number(slices['global'])}; difference {_interval(slices['difference'])}."
        )
    for kept in (True, False):
        if not by[kept]:
            continue
        head = ["value", "test rows", "positives", "own", "global", "threshold"] if kept else ["falls back", "why"]
        rows = []
        for part in by[kept][:shown]:
            test = part.get("test") or {}
            measured = [_number(test.get(name)) for name in ("rows", "positives", "own", "global")]
            measured.append(_number(part.get("threshold")))
            rows.append([str(part["slice"]) or "(empty)", *(measured if kept else [part["reason"]])])
        lines.append(_table(head, rows))
        if len(by[kept]) > len(rows):
            lines.append(f"… and {len(by[kept]) - len(rows)} more: model_card.md and slices.json name them all.")
    return "\n\n".join(lines)


def _limits(model: dict[str, Any], segments: list[dict[str, Any]]) -> str:
    thin = [f"{s.get('segment')} {s.get('group')}" for s in segments if not s.get("enough")]
    lines = [
        "- It knows only what its training data showed; other populations and other times need a new evaluation.",
        "- Labels arrive late: rows that were not labelled in time were left out, not taken as negative.",
        "- Attributions say what moved the score, not what caused the event.",
    ]
    if thin:
        lines.append(f"- Too few rows for a statement on: {', '.join(thin)}.")
    if (difference := model.get("onnx_max_difference")) is not None:
        lines.append(f"- The exported graph differs from the trained model by at most {difference:.1e}.")
    return "\n".join(lines)


def _pairs(record: dict[str, Any]) -> str:
    return _table(["", ""], [[str(k), _number(v)] for k, v in record.items()]) if record else "None."


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["-"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def _interval(metric: Any) -> str:
    if not isinstance(metric, dict):
        return _number(metric)
    text = _number(metric.get("value"))
    if metric.get("low") is None or metric.get("high") is None:
        return text
    return f"{text} [{_number(metric['low'])}, {_number(metric['high'])}]"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
