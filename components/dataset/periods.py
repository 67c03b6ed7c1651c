"""The splits of the data set: which events each takes, by time."""

from __future__ import annotations

from datetime import datetime

from seaway.config import Workload, duration
from seaway.errors import SeawayError

Period = tuple[datetime, datetime]  # from, until (not included)


def splits(workload: Workload, end: datetime) -> dict[str, Period]:
    """The period of each split, counted back from ``end``, the midnight after the last event.

    sweep_train | delay | valid and train | delay | test | replay. A period ends one label delay before
    the next one starts, so that all its labels are known by then; valid is the last part of train's span.
    """
    lengths = {name: duration(getattr(workload.split, name)) for name in ("train", "valid", "test", "replay")}
    delay = duration(workload.label.delay)
    tested = end - lengths["replay"] - lengths["test"]
    known = tested - delay
    valid = known - lengths["valid"]
    return {
        "sweep_train": (valid - delay - lengths["train"], valid - delay),
        "valid": (valid, known),
        "train": (known - lengths["train"], known),
        "test": (tested, tested + lengths["test"]),
        "replay": (end - lengths["replay"], end),
    }


def no_event(name: str, period: Period) -> SeawayError:
    """What to say of a split that has no rows."""
    start, end = period
    return SeawayError(
        f"split {name!r} ({start:%Y-%m-%d} to {end:%Y-%m-%d}) has no event: shorten `split` in the workload "
        "file, or give data of a longer time"
    )
