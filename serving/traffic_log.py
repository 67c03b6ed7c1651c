"""The prediction log: what was sent and answered, in parts that survive a kill, joined at the end.

``folder/sent.json`` is written before the rows it covers are sent, so that after a kill no row is sent
twice; ``folder/part-*.parquet`` hold the answers so far.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from seaway.artifacts import atomic_write, read_json, write_json

COLUMNS = {
    "row": pl.Int64,
    "predictor": pl.String,
    "version": pl.String,
    "status": pl.Int32,  # 0: no answer (refused, lost or timed out)
    "probability": pl.Float64,
    "decision": pl.Int32,
    "latency_ms": pl.Float64,
    "late_ms": pl.Float64,  # sent that much after it was due
    "features": pl.List(pl.Float32),
    "time": pl.Datetime("us"),
}


class PredictionLog:
    """Buffers answers and writes them as parts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._buffer: list[dict[str, Any]] = []
        folder.mkdir(parents=True, exist_ok=True)

    def reserved(self) -> int | None:
        """The first row that was certainly not sent by an earlier run; None when there was none."""
        path = self.folder / "sent.json"
        return int(read_json(path)["next"]) if path.exists() else None

    def reserve(self, row: int) -> None:
        """Declare that rows below ``row`` may be sent from now on."""
        write_json(self.folder / "sent.json", {"next": row})

    def add(self, record: dict[str, Any]) -> None:
        self._buffer.append(record)

    def flush(self) -> None:
        """Write what is buffered as one more part."""
        if not self._buffer:
            return
        records, self._buffer = self._buffer, []
        number = max((int(re.findall(r"\d+", p.stem)[-1]) for p in self._parts()), default=0) + 1
        with atomic_write(self.folder / f"part-{number:06d}.parquet") as temporary:
            self._frame(records).write_parquet(temporary)

    def table(self) -> pl.DataFrame:
        """All answers so far, by row."""
        frames = [pl.read_parquet(p) for p in self._parts()]
        return pl.concat(frames).sort("row") if frames else self._frame([])

    def join(self, path: Path) -> pl.DataFrame:
        """Write all parts as the one Parquet file ``path`` and return it."""
        table = self.table()
        with atomic_write(path) as temporary:
            table.write_parquet(temporary)
        return table

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("part-*.parquet"))

    def _frame(self, records: list[dict[str, Any]]) -> pl.DataFrame:
        columns = {"id": pl.Int64 if all(isinstance(r["id"], int) for r in records) else pl.String, **COLUMNS}
        return pl.DataFrame([{k: r.get(k) for k in columns} for r in records], schema=columns, orient="row")


def summary(table: pl.DataFrame) -> dict[str, Any]:
    """Counts and answer times of a prediction log: in all and by predictor ("unknown" for failures without one)."""
    parts = {}
    for (name,), part in table.with_columns(pl.col("predictor").fill_null("unknown")).group_by("predictor"):
        parts[str(name)] = _numbers(part)
    return {**_numbers(table), "by_predictor": dict(sorted(parts.items()))}


def _numbers(table: pl.DataFrame) -> dict[str, Any]:
    latency = table["latency_ms"].to_numpy()
    p50, p99 = (round(float(v), 3) for v in np.quantile(latency, [0.5, 0.99])) if len(latency) else (None, None)
    return {"sent": table.height, "failed": int((table["status"] != 200).sum()), "p50_ms": p50, "p99_ms": p99}
