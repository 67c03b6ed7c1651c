"""Finished sweeps in MLflow: one run each, with its best points as a tag, found again by what they searched.

As in seaway/registry.py, the local SQLite file is read directly and MLflow is imported only to write, or for a server.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from seaway.config import Config
from seaway.errors import SeawayError
from seaway.registry_client import connect, experiment

KEY, POINTS = "sweep.key", "sweep.points"
LONGEST = 5000  # characters of a tag that servers of all ages take
NEWEST = 200  # sweeps that are looked at


class Sweeps:
    """The sweeps of one workload, in the experiment ``<name>-sweeps``."""

    def __init__(self, uri: str, name: str, artifacts: Path) -> None:
        self._uri, self._model, self._name, self._artifacts = uri, name, f"{name}-sweeps", artifacts

    @classmethod
    def of(cls, config: Config) -> Sweeps:
        uri = config.tracking_uri or f"sqlite:///{config.home / 'mlflow.db'}"
        return cls(uri, config.workload.name, config.home / "mlartifacts")

    @property
    def _file(self) -> Path | None:
        return Path(self._uri.removeprefix("sqlite:///")) if self._uri.startswith("sqlite:///") else None

    def record(
        self,
        key: str,
        searched: Mapping[str, str],
        points: Sequence[Mapping[str, Any]],
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        values: Sequence[float],
    ) -> str:
        """Keep a sweep; the run's id. The same ``key`` again is the same run, brought up to date.

        ``searched``: tags to find it by; ``points``: [{"value", "params"}] best first, of which as many are kept as a
        tag takes; ``values``: of each trial, in order. A few calls, whatever the number of trials. Raises SeawayError
        for a store that does not answer.
        """
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        client = connect(self._uri, self._model, self._file)
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.exceptions import MlflowException

        now = int(time.time() * 1000)
        tags = [RunTag(k, v) for k, v in {**searched, KEY: key, POINTS: fitting(points)}.items()]
        shown = [Metric(k, float(v), now, 0) for k, v in metrics.items()]
        shown += [Metric("trial", float(v), now, step) for step, v in enumerate(values[: 900 - len(shown)])]
        try:
            at = experiment(client, self._name, self._artifacts if self._file else None)
            known = client.search_runs([at], f"tags.`{KEY}` = '{key}'", max_results=1)
            run = known[0].info.run_id if known else client.create_run(at, run_name=f"sweep-{key}").info.run_id
            # parameters cannot be changed later, so those of a sweep that goes on stay in its tag alone
            best = [] if known else [Param(k, str(v)) for k, v in params.items()]
            client.log_batch(run, metrics=shown, params=best, tags=tags)
            client.set_terminated(run)
        except MlflowException as error:
            raise SeawayError(f"the tracking server {self._uri} does not take a sweep ({str(error)[:200]})") from None
        return run

    def points(self, searched: Mapping[str, str], without: str = "") -> list[dict[str, Any]]:
        """The points of all sweeps with the tags ``searched``, but not of the one with the key ``without``.

        Raises SeawayError for a store that cannot be read; one that is not there yet has none.
        """
        found: list[dict[str, Any]] = []
        for tags in self._tags(searched):
            if tags.get(KEY) != without:
                try:
                    found += [
                        {"value": float(p["value"]), "params": dict(p["params"])} for p in json.loads(tags[POINTS])
                    ]
                except (KeyError, TypeError, ValueError):
                    continue  # somebody else's run
        return found

    def _tags(self, searched: Mapping[str, str]) -> list[dict[str, str]]:
        if self._file and not self._file.exists():
            return []
        if self._file:
            try:
                return self._tags_in_file(self._file, searched)
            except sqlite3.Error:  # a schema that this reader does not know
                pass
        client = connect(self._uri, self._model, self._file)
        from mlflow.exceptions import MlflowException

        try:
            at = client.get_experiment_by_name(self._name)
            wanted = " and ".join(f"tags.`{k}` = '{v}'" for k, v in searched.items())
            runs = client.search_runs([at.experiment_id], wanted, max_results=NEWEST) if at else []
        except MlflowException as error:
            raise SeawayError(f"the tracking server {self._uri} cannot be asked ({str(error)[:200]})") from None
        return [dict(run.data.tags) for run in runs]

    def _tags_in_file(self, file: Path, searched: Mapping[str, str]) -> list[dict[str, str]]:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=10)) as db:
            query = (
                "SELECT r.run_uuid FROM runs r JOIN experiments e ON e.experiment_id = r.experiment_id "
                "WHERE e.name = ? AND r.lifecycle_stage = 'active' ORDER BY r.start_time DESC LIMIT ?"
            )
            runs = [row[0] for row in db.execute(query, (self._name, NEWEST)).fetchall()]
            all_ = [
                dict(db.execute("SELECT key, value FROM tags WHERE run_uuid = ?", (run,)).fetchall()) for run in runs
            ]
        return [tags for tags in all_ if all(tags.get(k) == v for k, v in searched.items())]


def fitting(points: Sequence[Mapping[str, Any]]) -> str:
    """As many of the points, from the first on, as JSON of a tag's length."""
    kept = list(points)
    while len(text := json.dumps(kept, separators=(",", ":"))) > LONGEST:
        kept.pop()
    return text
