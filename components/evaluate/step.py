"""The evaluation: candidate, champion and baseline on the same held-out rows, gates, segments, reasons."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from components.evaluate.bundle import Bundle
from components.evaluate.by_slice import by_slice
from components.evaluate.explain import attributions
from components.evaluate.measure import Model, TopK, compare, curves, estimates
from components.evaluate.segments import groups
from components.evaluate.verdict import Estimate, SegmentDifference, decide_verdict
from components.train.data import read_rows
from seaway.artifacts import write_json
from seaway.config import Config
from seaway.errors import SeawayError
from seaway.features import FeatureSpec
from seaway.metrics import NAMED, Bootstrap
from seaway.progress import say


def evaluate(
    config: Config, spec: FeatureSpec, dataset: Path, model: Path, champion: Path | None, out: Path
) -> dict[str, Any]:
    """Measure on test.parquet; write verdict.json, metrics.json, curves.json, segments.json, attributions.json.

    ``model`` is the candidate's bundle with the baseline's in its folder baseline/; ``champion`` the
    bundle in use, or None. A champion whose features, or column of slices, are not in the data set is not
    compared, and the verdict says so. A bundle with slices is measured as it is served, each row by its
    slice's model, and slices.json says what that brings. Raises SeawayError for a missing bundle or test
    rows, or an unknown gate metric.
    """
    started, gates, workload = time.perf_counter(), config.workload.gates, config.workload
    if gates.metric not in NAMED:
        raise SeawayError(f"gates.metric {gates.metric!r} is not one of {', '.join(NAMED)}")
    file = dataset / "test.parquet"
    rows, frame = read_rows(config, spec, file), pl.read_parquet(file)
    candidate, rival = Bundle(model), Bundle(champion) if champion else None
    scored = candidate.scored(frame)
    models = {"candidate": scored.model, "baseline": Bundle(model / "baseline").scored(frame).model}
    missing = rival.lacks(frame) if rival else ""
    if rival and not missing:
        models["champion"] = rival.scored(frame).model
    top, clusters = _top(config, frame)
    bootstrap = Bootstrap(len(rows.labels), gates.bootstrap, workload.sweep.seed, clusters)
    found = estimates(models, rows.labels, bootstrap, top)
    parts = _segments(config, frame, models, rows.labels, clusters)
    difference = None
    if "champion" in models:
        pair = models["candidate"].scores, models["champion"].scores
        difference = compare(gates.metric, *pair, rows.labels, bootstrap)[2]
    verdict = decide_verdict(
        gates,
        int(rows.labels.sum()),
        {name: Estimate(**record) for name, record in found["candidate"].items()},
        difference,
        [SegmentDifference(p["segment"], p["group"], _difference(p), p["enough"]) for p in parts],
    )
    if missing:
        verdict["notes"] = [f"the champion was not compared: the data set lacks {missing}"]
    explained = attributions(
        candidate.explainer,
        scored.own,
        scored.features,
        scored.model.scores,
        rows.labels,
        _ids(config, frame),
        candidate.names,
        candidate.record["reasons"],
        workload.sweep.seed,
        sliced=candidate.slices is not None,
    )
    sliced = None
    if table := candidate.routing():
        sliced = by_slice(table, gates.metric, scored, frame[table["by"]].to_list(), rows.labels, bootstrap)
        write_json(out / "slices.json", sliced)
        own = sum(part["kept"] for part in sliced["slices"])
        say(f"evaluate: {own} of {len(sliced['slices'])} values of {sliced['by']} have a model of their own")
    write_json(out / "metrics.json", {name: found.get(name) for name in ("candidate", "baseline", "champion")})
    write_json(out / "curves.json", {name: curves(m, rows.labels) for name, m in models.items()})
    write_json(out / "segments.json", parts)
    write_json(out / "attributions.json", explained)
    write_json(out / "verdict.json", verdict)
    return {
        "verdict": verdict["verdict"],
        "reasons": verdict["reasons"] + verdict.get("notes", []),
        "rows": len(rows.labels),
        "positives": int(rows.labels.sum()),
        "metrics": {name: {m: e["value"] for m, e in record.items()} for name, record in found.items()},
        "against_champion": asdict(difference) if difference else None,
        **({"against_global": sliced["difference"]} if sliced else {}),
        "seconds": round(time.perf_counter() - started, 2),
    }


def _top(config: Config, frame: pl.DataFrame) -> tuple[TopK | None, np.ndarray | None]:
    """Days, keys and k of precision at k, and the entity by which rows are resampled; None without top_k."""
    wanted = config.workload.top_k
    if not wanted:
        return None, None
    key = config.workload.entities.get(wanted.get("entity"))
    if key is None or "k" not in wanted:
        raise SeawayError(f"top_k needs an entity (one of {', '.join(config.workload.entities)}) and k; it is {wanted}")
    keys = np.unique(frame[key].to_numpy(), return_inverse=True)[1]
    time_column = config.workload.sources[config.workload.source].time
    days = frame[time_column].cast(pl.Datetime("us")).dt.date().to_physical().to_numpy()
    return TopK(days, keys, int(wanted["k"])), keys


def _segments(
    config: Config, frame: pl.DataFrame, models: dict[str, Model], labels: np.ndarray, clusters: np.ndarray | None
) -> list[dict[str, Any]]:
    """A record per group; too small groups have rows and positives, and no judgement."""
    gates, records = config.workload.gates, []
    champion = models.get("champion")
    for segment in config.workload.segments:
        for name, mask in groups(segment, frame).items():
            count, positives = int(mask.sum()), int(labels[mask].sum())
            enough = count >= gates.min_segment_rows and positives >= gates.min_positives
            record = {"segment": segment.name, "group": name, "rows": count, "positives": positives, "enough": enough}
            record |= dict.fromkeys(("candidate", "champion", "difference", "low", "high"))
            mine, part = models["candidate"].scores[mask], labels[mask]
            if 0 < positives < count:
                record["candidate"] = float(NAMED[gates.metric](mine, part))
                if champion:
                    own = None if clusters is None else clusters[mask]
                    bootstrap = Bootstrap(count, gates.bootstrap, config.workload.sweep.seed, own)
                    _, theirs, gap = compare(gates.metric, mine, champion.scores[mask], part, bootstrap)
                    record |= {"champion": theirs, "difference": gap.value, "low": gap.low, "high": gap.high}
            records.append(record)
    return records


def _difference(part: dict[str, Any]) -> Estimate:
    return Estimate(part["difference"], part["low"], part["high"])


def _ids(config: Config, frame: pl.DataFrame) -> list[Any]:
    """The rows' ids, or their numbers where the source has none."""
    name = config.workload.sources[config.workload.source].id
    return frame[name].to_list() if name in frame.columns else list(range(frame.height))
