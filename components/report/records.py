"""Reading what the steps left behind; a part that is not there says so instead of failing."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


class NotRun(Exception):
    """A part of the train has left no record; the text says which, for the reader of the report."""


@dataclass(frozen=True)
class Records:
    """All that a report is made of."""

    home: Path
    run: dict[str, Any] = field(default_factory=dict)
    releases: tuple[dict[str, Any], ...] = ()  # oldest first; each record has its folder under "folder"

    def summary(self, step: str) -> dict[str, Any]:
        """What a step said of itself, {} when it said nothing."""
        for entry in self.run.get("steps") or []:
            if entry.get("name") == step and isinstance(entry.get("summary"), dict):
                return entry["summary"]
        return {}

    def outputs(self, step: str) -> dict[str, str]:
        """The paths of all that a step has written, by the output's name."""
        entry = next((s for s in self.run.get("steps") or [] if s.get("name") == step), {})
        return entry.get("outputs") or {}

    def folder(self, step: str) -> Path:
        """The output folder of a step; NotRun when the run has none."""
        path = (self.run.get("outputs") or {}).get(step)
        if not path:
            raise NotRun(f"This run has no output of the step “{step}”.")
        return Path(path)

    def json(self, step: str, name: str) -> Any:
        """A JSON record that a step wrote; NotRun when it is missing or broken."""
        path = self.folder(step) / name
        record = read(path)
        if record is None:
            raise NotRun(f"{name} of the step “{step}” was not written ({path}).")
        return record

    def table(self, path: Path, rows: int | None = None) -> Any:
        """A Parquet file as a Polars data frame; ValueError when it is not one."""
        import polars as pl

        try:
            return pl.read_parquet(path, n_rows=rows)
        except pl.exceptions.PolarsError as error:
            raise ValueError(f"{path} is not Parquet: {error}") from None

    def find(self, step: str, name: str) -> Any:
        """As ``json``, but None instead of NotRun."""
        try:
            return self.json(step, name)
        except NotRun:
            return None


def load(home: Path, releases: list[Path], run: Path) -> Records:
    """Read the run's record and each release's; unreadable ones count as absent."""
    found = []
    for folder in releases:
        record = read(folder / "record.json")
        if isinstance(record, dict):
            found.append({**record, "folder": folder})
    return Records(home=home, run=read(run) or {}, releases=tuple(found))


def read(path: Path) -> Any:
    """The JSON in a file, or None."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def moment(value: Any) -> datetime | None:
    """A time written as ISO 8601 or as seconds since the epoch, in UTC."""
    try:
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        time = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except (ValueError, OverflowError, OSError):
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def seconds_in(release: dict[str, Any], value: Any) -> float:
    """A record's ``t`` as seconds since the release began; small numbers already are."""
    if isinstance(value, int | float) and value < 1e8:
        return float(value)
    start, now = moment(release.get("started")), moment(value)
    return (now - start).total_seconds() if start and now else 0.0


_SHOWN = ("what", "release", "version", "champion", "why", "who")


def ledger(home: Path, last: int = 12) -> list[dict[str, Any]]:
    """The newest lines of the promotion log, oldest of them first; lines that do not parse are left out."""
    shown = []
    for line in _lines(home)[-last:]:
        try:
            entry = line["entry"]
            shown.append(
                {"seq": line["seq"], "time": line["time"], **{k: entry.get(k) for k in _SHOWN}, "hash": line["hash"]}
            )
        except (KeyError, TypeError, AttributeError):
            continue
    return shown


def ledger_entries(home: Path) -> list[dict[str, Any]]:
    """What every line of the promotion log says, the oldest first."""
    return [line["entry"] for line in _lines(home) if isinstance(line.get("entry"), dict)]


def _lines(home: Path) -> list[dict[str, Any]]:
    found = []
    with suppress(OSError):
        for text in (home / "ledger.jsonl").read_text().splitlines():
            with suppress(ValueError):
                found.append(json.loads(text))
    return [line for line in found if isinstance(line, dict)]
