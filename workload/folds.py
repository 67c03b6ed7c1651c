"""The published split of time: four folds to choose on, four to test on, and what is left out of each.

A fold, numbered by the first day S of its training week: train [S, S+7), then 7 days whose labels are
not known yet, then assess [S+14, S+21). Source: Fraud Detection Handbook, chapters 3 and 5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seaway.errors import SeawayError

WEEK = 7
# days from a fold's first training day to the last day of the data (published: 30 September 2018)
TEST_STARTS = (46, 53, 60, 67)
VALIDATION_STARTS = (81, 88, 95, 102)


@dataclass(frozen=True)
class Fold:
    """Row numbers of one fold; ``start`` is the first day of its training week."""

    start: int
    train: np.ndarray
    assess: np.ndarray


def split(
    days: np.ndarray, customers: np.ndarray, labels: np.ndarray, starts: tuple[int, ...], history: int = WEEK
) -> list[Fold]:
    """The folds that begin ``starts`` days before the last day of the data.

    ``days`` int (n,): day number of each row. ``history``: days of training rows, ending with the
    training week; the rows that are assessed do not depend on it. Raises SeawayError if the data do not
    reach back far enough, or a fold has no positive to learn from or to find.
    """
    if not len(days) or days.max() - days.min() < max(starts):
        length = int(days.max() - days.min()) + 1 if len(days) else 0
        raise SeawayError(
            f"the published protocol needs {max(VALIDATION_STARTS) + 1} days of events, these are {length}; "
            "give more data (the published draw has 183 days)"
        )
    folds = []
    for back in starts:
        start = int(days.max()) - back
        train = np.flatnonzero((days >= start + WEEK - history) & (days < start + WEEK))
        fold = Fold(start, train, assessed(days, customers, labels, start))
        for part, rows in (("training", fold.train), ("assessment", fold.assess)):
            if len(np.unique(labels[rows])) < 2:
                raise SeawayError(f"the {part} rows of the fold {back} days before the end have only one class")
        folds.append(fold)
    return folds


def assessed(days: np.ndarray, customers: np.ndarray, labels: np.ndarray, start: int) -> np.ndarray:
    """Rows of the assessment week less those of customers already known as hit.

    Known on assessment day k (0-6): customers with a positive on any day from the first training day up
    to day ``start + 6 + k``, eight days before it, which is when those labels have come in.
    """
    kept = []
    for k in range(WEEK):
        hit = (days >= start) & (days < start + WEEK + k) & (labels == 1)
        today = np.flatnonzero(days == start + 2 * WEEK + k)
        kept.append(today[~np.isin(customers[today], np.unique(customers[hit]))])
    return np.concatenate(kept)
