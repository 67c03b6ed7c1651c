"""Labels from a CSV file, as people and other systems hand them over."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path

from seaway.errors import SeawayError


def read_labels(file: str | Path, now: float) -> list[tuple[str, int, float]]:
    """(id, label, seconds since the epoch) of every row of a CSV file with the columns id, label and maybe time.

    ``time``: when the label became known, as seconds or ISO 8601 (UTC where it names no zone); ``now`` where it is
    empty or there is no such column. SeawayError names the first line that is wrong; then nothing is taken.
    """
    path, found = Path(file), []
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv.DictReader(stream)
            names = set(rows.fieldnames or ())
            if not {"id", "label"} <= names:
                raise SeawayError(
                    f"{path}: its first line names {sorted(names)}; it must name id, label and maybe time"
                )
            for row in rows:
                found.append(_label(row, now, f"{path}, line {rows.line_num}"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SeawayError(f"{path} cannot be read as CSV: {error}") from None
    if not found:
        raise SeawayError(f"{path} has no labels: write a line `id,label` and then one line a label")
    return found


def _label(row: dict[str, str | None], now: float, where: str) -> tuple[str, int, float]:
    identity, label = (row["id"] or "").strip(), (row["label"] or "").strip()
    if not identity:
        raise SeawayError(f"{where}: the id is empty")
    if label not in ("0", "1"):
        raise SeawayError(f"{where}: label {label!r} is neither 0 nor 1; leave the line out while it is not known")
    text = (row.get("time") or "").strip()
    try:
        return identity, int(label), _seconds(text) if text else now
    except ValueError:
        raise SeawayError(f"{where}: time {text!r} is neither seconds since the epoch nor ISO 8601") from None


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    if not abs(seconds) < 1e11:  # also NaN; a time in milliseconds would lie in the year 5000
        raise ValueError(text)
    return seconds
