"""What is known of a run, kept in home/runs/<run>/run.json after every event that changes it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.tune.budget import rates_of
from pipelines.costs import cost_of, known_by
from seaway.artifacts import read_json, write_json
from seaway.config import Config


class Record:
    """The record of one run; ``more`` are fields beside the usual ones, such as a cluster's name of the run."""

    def __init__(self, run: str, file: Path, config: Config, more: dict[str, Any] | None = None) -> None:
        self._file, self._clock, self._before, self._config = file, time.monotonic(), 0.0, config
        self._fields = {
            "run": run,
            "env": config.env,
            "workload": config.workload.name,
            "scale": config.scale,
            "infrastructure": config.infrastructure.model_dump(mode="json"),
            **known_by(config),
            "rates": rates_of(config.budget).as_record(),
            **({"dashboard": config.ray.dashboard} if config.ray.dashboard else {}),
            "status": "running",
            "started": datetime.now(UTC).isoformat(),
            **(more or {}),
        }
        self._steps: dict[str, dict[str, Any]] = {}

    @classmethod
    def of(cls, file: Path, config: Config) -> Record:
        """The record of a run that was begun before, to go on with."""
        record, known = cls("", file, config), read_json(file)
        record._before = known.pop("seconds", 0.0)
        known.pop("usd", None)
        record._steps = {step["name"]: step for step in known.pop("steps", [])}
        known.pop("outputs", None)
        record._fields = known | {"status": "running"}
        return record

    @property
    def done(self) -> frozenset[str]:
        """The steps that have ended well."""
        return frozenset(s["name"] for s in self._steps.values() if s["status"] in ("done", "skipped"))

    def take(self, event: dict[str, Any]) -> None:
        """Take in a step's event, or what a runner notes of the run as a whole."""
        kind, name = event["event"], event.get("step", "")
        if kind == "reason":
            self._steps[name] = {"name": name, "status": "running", "seconds": 0.0, "reason": event["reason"]}
        elif kind == "end":
            ended = {"name": name, **{k: v for k, v in event.items() if k not in ("event", "step")}}
            self._steps[name] = ended | cost_of(ended, self._config)
        elif kind == "fail":
            before = self._steps.get(name, {"name": name, "reason": ""})
            self._steps[name] = before | {"status": "failed", "error": event["text"]}
        elif kind == "note" and "cluster" in event:
            self._fields["cluster"] = event["cluster"]
        else:
            return
        self._write()

    def end(self, status: str) -> dict[str, Any]:
        """The final record."""
        self._fields["status"] = status
        return self._write()

    def failure(self, error: Exception, log: str, again: str) -> str:
        """What to tell a person about the failed run: what failed, where the ``log`` is, how to go on."""
        steps = sorted(self._steps.values(), key=lambda step: step["status"])  # a failed one before a running one
        failed = next((s for s in steps if s["status"] in ("failed", "running")), None)
        if failed is None:
            return f"the pipeline failed: {error}\n  log: {log}"
        text = failed.get("error") or "it was killed, or ended without a word (out of memory?)"
        return f"step {failed['name']} failed: {text}\n  log: {log}\n  {again}"

    def _write(self) -> dict[str, Any]:
        steps = list(self._steps.values())
        outputs = {s["name"]: s["outputs"]["out"] for s in steps if "outputs" in s}
        seconds = round(self._before + time.monotonic() - self._clock, 3)
        spent = sum(s.get("usd", 0.0) for s in steps)
        record = {**self._fields, "seconds": seconds, "usd": spent, "steps": steps, "outputs": outputs}
        write_json(self._file, record)
        return record
