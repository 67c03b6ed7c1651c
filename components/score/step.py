"""Step: rows of features -> scores of a registered version, a partition at a time, each exactly once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from components.score import model as models
from components.score.crew import scored, workers
from components.score.partition import Wish, key_of, known, source_of, whole
from components.score.places import Place
from components.score.table import Part, partitions
from seaway import alive, progress
from seaway.artifacts import canonical_json, record_hash, write_json
from seaway.config import Config
from seaway.errors import SeawayError
from seaway.features import FeatureSpec
from seaway.storage import Storage

EVERY_S = 2.0  # between lines of progress
SHOWN = 3  # partitions that failed, in the message


def score(config: Config, spec: FeatureSpec, features: Path, out: Path) -> dict[str, Any]:
    """Score the feature step's table with ``config.scoring.version``; rows go to ``config.scoring.out``.

    Writes out/summary.json. Raises SeawayError for a version of other features, and as ``score_table``.
    """
    model = models.load(config, config.scoring.version)
    if model.feature_hash != spec.hash:
        raise SeawayError(
            f"version {model.version} was trained on features of hash {model.feature_hash[:12]}..., the workload's are "
            f"{spec.hash[:12]}... now: score with a version of these, or check out the definitions of that one "
            f"(its run: {model.run or 'unknown'})"
        )
    summary = score_table(config, model, Place(str(features.absolute())), destination(config))
    write_json(out / "summary.json", summary)
    return summary


def destination(config: Config) -> Place:
    """Where scores go: scoring.out, or ``scores`` of the environment's storage, or of home."""
    store = Storage.of(config)
    return Place.of(config, config.scoring.out or (store.join("scores") if store else str(config.home / "scores")))


def score_table(
    config: Config, model: models.Model, table: Place, out: Place, tell: Callable[[str], object] = progress.say
) -> dict[str, Any]:
    """Score every partition of ``table`` that is not done yet, below ``out``. ``tell`` gets lines of progress.

    Writes ``summary.json`` there. Raises SeawayError that names the partitions that cannot be scored; the others are
    done then, and the same call goes on with these.
    """
    began, settings = time.perf_counter(), config.scoring
    source = config.workload.sources[config.workload.source]
    wish = Wish(source.id or "row", source.time, settings.batch, settings.explain, settings.log)
    lock = config.home / "locks" / f"score-{record_hash([out.root])[:16]}.lock"
    with alive.hold(lock, f"another process is scoring into {out.name()}: wait for it, or give another --out"):
        parts = partitions(table, model.spec, _date(settings.start), _date(settings.end))
        for below in ("scores", "log", "manifests"):
            out.clear(below)
        kept, todo = _sorted_out(parts, out, key_of(model, wish))
        words = f"{len(kept)} are done already" if kept else f"{workers(config)} at a time"
        tell(f"score: version {model.version}, {len(parts)} partitions into {out.name()}, {words}")
        out.check()
        if todo and config.ray.substrate == "kuberay":
            from components.score.cluster import by_job

            return by_job(config, model, table, parts, wish, out)
        done, failed, meter = list(kept), {}, Meter(parts, kept, tell)
        for part, result in scored(config, todo, out, wish, model) if todo else ():
            if isinstance(result, str):
                failed[part.name] = result
            else:
                done.append(result)
            meter.tell(result)
        seconds = time.perf_counter() - began
        started = meter.began - began if todo else seconds
        summary = _summary(model, parts, done, kept, failed, seconds, started)
        out.write("summary.json", canonical_json({**summary, "failed": failed, "out": out.name()}).encode())
    if failed:
        raise SeawayError(_explained(failed, len(done)))
    return {**summary, "out": out.name()}


def _date(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise SeawayError(f"{text!r} is no day: write it as 2018-04-01 (scoring.start and scoring.end)") from None


def _sorted_out(parts: Sequence[Part], out: Place, key: str) -> tuple[list[dict[str, Any]], list[Part]]:
    """Manifests of the partitions that nothing has changed for, and the other partitions."""
    kept, todo = [], []
    for part in parts:
        before = known(out, part.name)
        same = before.get("key") == key and not part.views  # a view that is joined may be another
        if same and before["source"] == source_of(part) and whole(out, before):
            kept.append({**before, "status": "kept"})
        else:
            todo.append(part)
    return kept, todo


class Meter:
    """Lines of progress with the rows a second and the time left."""

    def __init__(self, parts: Sequence[Part], kept: Sequence[dict[str, Any]], tell: Callable[[str], object]) -> None:
        self._tell = tell
        rows = [part.rows for part in parts]
        self._all = sum(rows) - sum(m["rows"] for m in kept) if None not in rows else None
        self._parts, self._before = len(parts), len(kept)
        self._done = self._rows = 0
        self.began = self._told = 0.0

    def tell(self, result: dict[str, Any] | str) -> None:
        """Take in a partition's result; says something every few seconds."""
        self._done += 1
        self._rows += 0 if isinstance(result, str) else result["rows"]
        now = time.perf_counter()
        if not self.began:  # what Ray needs to start is not what a partition takes
            self.began = self._told = now - (0.0 if isinstance(result, str) else result["seconds"])
        if now - self._told >= EVERY_S:
            self._told = now
            self._tell(self.line(now - self.began))

    def line(self, seconds: float) -> str:
        """For example: ``score: 12 of 183 partitions, 114,000 of 1,754,155 rows, 95,000 a second, about 17 s left``."""
        share = self._rows / self._all if self._all else self._done / (self._parts - self._before)
        left = f", about {seconds * (1 - share) / share:.0f} s left" if share else ""
        of = f" of {self._all:,}" if self._all else ""
        return (
            f"score: {self._before + self._done} of {self._parts} partitions, {self._rows:,}{of} rows, "
            f"{self._rows / seconds:,.0f} a second{left}"
        )


def _summary(
    model: models.Model,
    parts: Sequence[Part],
    done: Sequence[dict[str, Any]],
    kept: Sequence[dict[str, Any]],
    failed: dict[str, str],
    seconds: float,
    started: float,
) -> dict[str, Any]:
    fresh = [manifest for manifest in done if manifest["status"] == "scored"]
    rows = sum(manifest["rows"] for manifest in fresh)
    return {
        "version": model.version,
        "run": model.run,
        "model": model.digest,
        "feature_hash": model.feature_hash,
        "names": [part.name for part in parts],
        "partitions": len(parts),
        "scored": len(fresh),
        "unchanged": len(done) - len(fresh),
        "not_scored": len(failed),
        "rows": sum(manifest["rows"] for manifest in done),
        "decided": sum(manifest["decided"] for manifest in done),
        "unscored_rows": sum(manifest["unscored"] for manifest in done),
        "rows_a_second": round(rows / seconds) if rows else 0,
        "seconds": round(seconds, 2),
        "start_seconds": round(started, 2),  # of these, until the first partition was begun
    }


def _explained(failed: dict[str, str], done: int) -> str:
    shown = [f"{name}: {why}" for name, why in sorted(failed.items())[:SHOWN]]
    more = [f"and {len(failed) - SHOWN} more, see summary.json"] if len(failed) > SHOWN else []
    lines = "\n  ".join([*shown, *more])
    return (
        f"{len(failed)} of {len(failed) + done} partitions could not be scored:\n  {lines}\n"
        "The others are done. When that is mended, run the same again: it scores what is left."
    )
