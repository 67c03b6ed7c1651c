"""Scoring by a RayJob: what only this side sees goes to object storage, the job is handed in and followed.

All that it needs is below ``<storage>/scoring/<key>``, the key being rows, model and output: ``model.json``, ``data/``
where the rows are not in object storage already, and, by the RayJob's name, what components.ray.kuberay says. The
name follows from the key, so that a step which is tried again finds the job of an earlier attempt; partitions that
are done are not done again in any case.
"""

from __future__ import annotations

import base64
import hashlib
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from components.score.model import Model
from components.score.partition import Wish, key_of, source_of
from components.score.places import Place
from components.score.table import SUFFIX, Part, read
from seaway.artifacts import canonical_json, read_json, record_hash
from seaway.config import Config
from seaway.errors import SeawayError
from seaway.features import HASH_KEY
from seaway.storage import Storage


def by_job(config: Config, model: Model, table: Place, parts: list[Part], wish: Wish, out: Place) -> dict[str, Any]:
    """``parts`` of ``table`` scored by a RayJob; the summary of components.score.step.score_table.

    Raises SeawayError with the job's own words when it fails.
    """
    from components.ray import jobs

    store = Storage.of(config)
    if store is None or not _seen(out, store):
        raise SeawayError(
            "ray.substrate is kuberay, whose pods share no files: set storage.uri, such as s3://bucket/x, and give "
            "--out below object storage too"
        )
    key = record_hash([[p.name, source_of(p)] for p in parts] + [key_of(model, wish), out.root])[:16]
    at = store.join("scoring", key)
    name = f"score-{record_hash([at, config.ray.image])[:12]}"
    mine, data = f"{at}/{name}", table.root
    if not table.remote:
        data = f"{at}/data"
        staged(store, data, parts, model, (wish.id, wish.time, *model.routed_by))
    carried = as_json(model)
    store.write(f"{at}/model.json", carried)
    record = {"model": f"{at}/model.json", "data": data, "out": out.root}
    jobs.run(config, "score", mine, record, ["--digest", hashlib.sha256(carried).hexdigest()])
    with tempfile.TemporaryDirectory(prefix="seaway-score-") as folder:
        return read_json(store.fetch(f"{mine}/result", Path(folder) / "result") / "summary.json")


def staged(store: Storage, uri: str, parts: list[Part], model: Model, also: tuple[str, ...]) -> None:
    """Publish partitions that only this side sees, a file each, with all of the model's features."""
    with tempfile.TemporaryDirectory(prefix="seaway-score-") as folder:
        for part in parts:
            rows = read(part, model.spec, model.feature_hash, also)
            rows = rows.select(*model.spec.names, *[n for n in rows.columns if n in also and n not in model.spec.names])
            rows.write_parquet(Path(folder) / f"{part.name}{SUFFIX}", metadata={HASH_KEY: model.feature_hash})
        store.publish(Path(folder), uri, replace=True)


def as_json(model: Model) -> bytes:
    files = {name: base64.b64encode(data).decode() for name, data in model.files.items()}
    return canonical_json({**asdict(model), "onnx": base64.b64encode(model.onnx).decode(), "files": files}).encode()


def from_json(data: bytes, digest: str) -> dict[str, Any]:
    """The fields of a Model; SeawayError for other bytes than those that were handed in."""
    if hashlib.sha256(data).hexdigest() != digest:
        raise SeawayError("the model in object storage is not the one that was handed in: run the command again")
    record = json.loads(data)
    background = tuple(map(tuple, record["background"]))
    files = {name: base64.b64decode(text) for name, text in record["files"].items()}
    return {**record, "onnx": base64.b64decode(record["onnx"]), "files": files, "background": background}


def _seen(out: Place, store: Storage) -> bool:
    """Whether pods see the output's place: object storage, or files where the storage itself is files (tests)."""
    return out.remote or store.uri.startswith("file:")
