"""One partition scored: rows in, one Parquet file of predictions out, whole and once.

Below the output's place: ``scores/<partition>.parquet``, if asked for ``log/<partition>.jsonl``, and, written last,
``manifests/<partition>.json``, which says of what they were made and has their hashes. The old manifest goes before its
files are replaced: a partition with a manifest whose hashes fit is whole.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from components.score.answers import SLICE, answers
from components.score.model import Model
from components.score.places import Place
from components.score.table import Part, read, tagged
from seaway.artifacts import canonical_json, record_hash
from seaway.features import vector
from seaway.slices import GLOBAL

if TYPE_CHECKING:
    import polars as pl

FORMAT = 1  # of what is written; another one is scored anew
MADE = ("probability", "decision", SLICE)  # empty for a row that has no score


@dataclass(frozen=True)
class Wish:
    """What to do with each row. ``id`` and ``time``: columns that are handed on; ``explain``: no, decided or all.

    ``log``: also as the lines of a server's prediction log.
    """

    id: str
    time: str
    batch: int
    explain: str = "no"
    log: bool = False


def key_of(model: Model, wish: Wish) -> str:
    """Hash of all that decides the scores beside the rows."""
    from importlib.metadata import version

    about = [FORMAT, model.digest, model.version, model.run, model.feature_hash, wish.id, wish.time, wish.explain]
    about += [wish.log]
    return record_hash([*about, version("onnxruntime")])


def known(out: Place, name: str) -> dict[str, Any]:
    """A partition's manifest; empty where there is none."""
    try:
        return json.loads(out.read(f"manifests/{name}.json") or b"{}")
    except ValueError:
        return {}


def source_of(part: Part) -> dict[str, str]:
    """What a manifest says of the file."""
    return {"file": str(part), "tag": tagged(part).tag}


def whole(out: Place, manifest: Mapping[str, Any]) -> bool:
    """Whether the files are those that the manifest names."""
    return bool(manifest) and all(out.sha256(name) == digest for name, digest in manifest["files"].items())


def score(part: Part, out: Place, wish: Wish, model: Model) -> dict[str, Any]:
    """Score a partition, or find that it is done; its manifest, with ``status`` scored or unchanged.

    Raises SeawayError for rows that cannot be scored and for files that cannot be written.
    """
    began = time.perf_counter()
    spec = model.spec
    asked = answers(model)
    frame = read(part, spec, model.feature_hash, (wish.id, wish.time), model.routed_by)
    features = np.ascontiguousarray(vector(spec, {name: frame[name].to_numpy() for name in spec.names}))
    own = asked.routes(frame, features)
    handed = _handed(frame, part, wish, own)
    about = {"key": key_of(model, wish), "content": _content(handed, features)}
    before = known(out, part.name)
    source = source_of(part)
    if {name: before.get(name) for name in about} == about and whole(out, before):
        if before["source"] != source:
            out.write(f"manifests/{part.name}.json", canonical_json({**before, "source": source}).encode())
        return {**before, "source": source, "status": "unchanged"}
    probability, sound = asked.scores(features, own, wish.batch)
    decision = asked.decisions(probability, own)
    table = _table(handed, probability, decision, sound, model)
    if wish.explain != "no":
        table = table.with_columns(asked.reasons(features, sound & ((decision == 1) | (wish.explain == "all")), own))
    files = {f"log/{part.name}.jsonl": _log(table, wish.id)} if wish.log else {}
    files[f"scores/{part.name}.parquet"] = _parquet(table)
    if before:
        out.remove(f"manifests/{part.name}.json")
    for name, data in files.items():
        out.write(name, data)
    manifest = {
        "partition": part.name,
        "source": source,
        **about,
        "model": {"version": model.version, "run": model.run, "digest": model.digest, "features": model.feature_hash},
        "rows": len(features),
        "decided": int((table["decision"] == 1).sum()),
        "unscored": int((~sound).sum()),
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
        "scored": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "seconds": round(time.perf_counter() - began, 3),
    }
    out.write(f"manifests/{part.name}.json", canonical_json(manifest).encode())
    return {**manifest, "status": "scored"}


def _handed(frame: pl.DataFrame, part: Part, wish: Wish, own: list[str]) -> pl.DataFrame:
    """What of a row goes on to its score; a row without an id of its own is named by its partition and place in it.

    ``own``: the slice of each row, if the version has slices; it becomes a column.
    """
    import polars as pl

    if wish.id not in frame.columns:
        frame = frame.with_columns(pl.format(f"{part.name}/{{}}", pl.int_range(pl.len())).alias(wish.id))
    handed = frame.select(name for name in dict.fromkeys((wish.id, wish.time)) if name in frame.columns)
    return handed.with_columns(pl.Series(SLICE, [name or GLOBAL for name in own])) if own else handed


def _table(
    handed: pl.DataFrame, probability: np.ndarray, decision: np.ndarray, sound: np.ndarray, model: Model
) -> pl.DataFrame:
    import polars as pl

    made = handed.with_columns(
        pl.Series("probability", probability),
        pl.Series("decision", decision),
        pl.lit(model.version).alias("model_version"),
        pl.lit(model.run).alias("run"),
        pl.lit(model.feature_hash).alias("feature_hash"),
    )
    if sound.all():
        return made
    scored = pl.Series(sound)
    return made.with_columns(pl.when(scored).then(pl.col(c)).alias(c) for c in made.columns if c in MADE)


def _log(table: pl.DataFrame, identity: str) -> bytes:
    """As the lines of a server's log (serving/prediction_log.py), with the run and the features' hash."""
    import polars as pl

    own = [pl.col(SLICE).alias("s")] if SLICE in table.columns else []
    lines = table.filter(pl.col("probability").is_not_null()).select(
        pl.col(identity).cast(pl.String).alias("id"),
        pl.lit(round(time.time(), 3)).alias("t"),
        pl.col("probability").alias("p"),
        pl.col("decision").alias("d"),
        pl.col("model_version").alias("v"),
        "run",
        pl.col("feature_hash").alias("features"),
        *own,
    )
    stream = io.BytesIO()
    lines.write_ndjson(stream)
    return stream.getvalue()


def _parquet(table: pl.DataFrame) -> bytes:
    stream = io.BytesIO()
    table.write_parquet(stream, compression="lz4")
    return stream.getvalue()


def _content(handed: pl.DataFrame, features: np.ndarray) -> str:
    """SHA-256 of the rows' values, whatever file they are in."""
    digest = hashlib.sha256(f"{features.shape}".encode())
    digest.update(features)
    for column in handed.iter_columns():
        digest.update(f"{column.name} {column.dtype}".encode())
        plain = column.to_physical()
        values = plain.to_numpy().tobytes() if plain.dtype.is_numeric() else "\0".join(map(str, plain)).encode()
        digest.update(values)
    return digest.hexdigest()
