"""Checks around a release: a few requests to warm up, and served answers against the offline table."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from pathlib import Path
from typing import Any

from seaway.bundles import local_copy
from seaway.config import Config
from seaway.errors import SeawayError
from seaway.hooks import resolve
from seaway.keys import public_key
from seaway.online import request_of
from seaway.signing import opened
from serving import manifests
from serving.release_plan import Plan

WARM_UP = 40


def warm(url: str, config: Config, dataset: Path, requests: int = WARM_UP) -> int:
    """Send the first replay row some times, without its event happening; how many were answered well.

    A server's first requests are slow for reasons that say nothing of the model. They are counted before
    the loop first looks, so they are no evidence.
    """
    from serving.traffic_process import load_rows
    from serving.wire_values import wire

    spec = resolve(config.workload.features, config.root)
    row = load_rows(dataset / "replay.parquet", config, spec, limit=1)[0]
    values = [wire(v) for v in request_of(spec, row).values()]
    # one id for all: where answers are compared by id, the same request counts once
    message = {"data": {"names": list(spec.inputs), "ndarray": [values]}, "meta": {"puid": "warm-up"}}
    body = json.dumps(message).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    good = 0
    for _ in range(requests):
        call = urllib.request.Request(  # noqa: S310  our own deployment
            f"{url}/api/v1.0/predictions", body, {"Content-Type": "application/json"}
        )
        try:
            with opener.open(call, timeout=10) as answer:
                good += answer.status == 200
        except OSError:
            continue
    return good


def parity(config: Config, plan: Plan, dataset: Path, log: Path, offset: int = 0) -> dict[str, Any] | None:
    """Served features and scores against the offline table and the bundles' own ONNX; None without answers.

    Answers of a bundle that is not what it was when it was served are left out: there is nothing to compare with.
    ``log``: the prediction log's Parquet file, whose ``row`` counts from ``offset`` in dataset/replay.parquet.
    """
    import numpy as np
    import polars as pl

    from seaway.parity import compare

    spec, models = resolve(config.workload.features, config.root), _models(config, plan)
    answers = pl.read_parquet(log).filter(pl.col("status") == 200, pl.col("features").is_not_null()).sort("row")
    answers = answers.filter(pl.col("version").is_in(list(models)))
    if answers.is_empty():
        return None
    rows = pl.read_parquet(dataset / "replay.parquet").sort("event_timestamp")[offset:][answers["row"].to_list()]
    table = rows.select(pl.col(name).cast(pl.Float32) for name in spec.names).to_numpy()
    scores = np.full(len(table), np.nan)
    versions = answers["version"].to_numpy()
    for version, model in models.items():
        mine = versions == version
        if mine.any():
            # each row by its slice's model, as it was served
            scores[mine] = model.scored(rows.filter(pl.Series(mine))).model.scores
    served = np.array(answers["features"].to_list(), dtype=np.float32)
    return compare(
        spec.names,
        served,
        np.ascontiguousarray(table),
        answers["probability"].to_numpy(),
        scores,
        answers["id"].to_list(),
    )


def _models(config: Config, plan: Plan) -> dict[str, Any]:
    """The bundles by version, as they were signed; one that was changed since is not among them."""
    from components.evaluate.bundle import Bundle

    found = {}
    for version, name in plan.predictors.items():
        named = manifests.parameters(manifests.predictors(plan.obj)[name])
        with contextlib.suppress(SeawayError):
            folder = local_copy(config, named["bundle"], named["digest"])
            sealed = opened(folder, public_key(config), named["digest"])
            found[version] = Bundle(folder, sealed.read)
    return found
