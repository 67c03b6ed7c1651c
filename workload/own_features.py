"""Features of our own beside the published fifteen: what else was known at the moment of a payment.

All are as of the event: amounts count from the second they happen, labels one label delay after it.
The ideas: how unusual is the amount against payments of this customer *known to be good*; how many such
unusual payments came lately; which known frauds at the terminal were of ordinary amounts (those speak
against the terminal, the unusual ones against the card); since when does the run of them last.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from seaway.features import MICRO, Window, micros, window_table

DELAY = "7d"
UNUSUAL = 2.2  # times the customer's mean good payment
LONG_AGO = 100.0  # days; stands for "never"


def own_features(columns: Mapping[str, np.ndarray], times: np.ndarray) -> dict[str, np.ndarray]:
    """Own features by name, float32 (n,), for a table in order of arrival.

    ``columns``: CUSTOMER_ID, TERMINAL_ID, TX_AMOUNT, TX_FRAUD, all (n,); ``times`` int64 microseconds.
    """
    customer, terminal = columns["CUSTOMER_ID"], columns["TERMINAL_ID"]
    amount, label = np.asarray(columns["TX_AMOUNT"], dtype=np.float64), np.asarray(columns["TX_FRAUD"])

    def windows(keys, values, lengths, *, delay="0d", quantum=1.0):
        """(count, mean) by window length, the event itself left out."""
        window = Window("own", "own", "own", "own", "n{n}", "m{n}", lengths, quantum, delay)
        table = window_table(window, keys, times, values)
        return {w: (table[f"n{w[:-1]}"], table[f"m{w[:-1]}"]) for w in lengths}

    out: dict[str, np.ndarray] = {}
    good = (label == 0).astype(np.float64)
    share = windows(customer, good, ("200d",), delay=DELAY)["200d"]
    known_good = share[0] * share[1]
    safe = np.maximum(share[1], 1e-9)
    mean = windows(customer, amount * good, ("200d",), delay=DELAY, quantum=0.01)["200d"][1] / safe
    square = windows(customer, (amount * good) ** 2, ("200d",), delay=DELAY, quantum=0.0001)["200d"][1] / safe
    seen = windows(customer, amount, ("1d", "7d", "30d", "200d"), quantum=0.01)
    usual = np.where(known_good > 0, mean, np.where(seen["200d"][0] > 0, seen["200d"][1], amount))
    spread = np.where(known_good > 2, np.sqrt(np.maximum(square - mean**2, 1.0)), np.maximum(usual / 2, 1.0))
    ratio = np.log((amount + 1) / (usual + 1))
    out["AMOUNT_TO_USUAL"] = ratio
    out["AMOUNT_Z"] = np.clip((amount - usual) / spread, -4, 12)
    out["CUSTOMER_KNOWN_GOOD"] = np.log1p(known_good)
    out["CUSTOMER_USUAL"] = np.log1p(usual)
    for length in ("1d", "7d", "30d"):
        count, average = seen[length]
        out[f"AMOUNT_TO_MEAN_{length}"] = np.where(count > 0, np.log((amount + 1) / (average + 1)), 0.0)

    unusual = ((amount > UNUSUAL * usual) & (known_good > 0)).astype(np.float64)
    for length, (count, average) in windows(customer, unusual, ("1d", "3d", "7d", "14d")).items():
        out[f"CUSTOMER_UNUSUAL_{length}"] = np.log1p(count * average)
    for length, (count, average) in windows(customer, label, ("7d", "14d", "30d"), delay=DELAY).items():
        out[f"CUSTOMER_FRAUDS_{length}"] = np.log1p(count * average)

    ordinary = ((label == 1) & (unusual == 0) & (amount <= 220)).astype(np.float64)
    lengths = ("1d", "3d", "7d", "14d", "21d", "28d")
    for length, (count, average) in windows(terminal, ordinary, lengths, delay=DELAY).items():
        out[f"TERMINAL_ORDINARY_FRAUDS_{length}"] = np.log1p(count * average)
        out[f"TERMINAL_ORDINARY_SHARE_{length}"] = average
    out |= _runs(terminal, times, good, ordinary)
    return {name: np.asarray(column, dtype=np.float32) for name, column in out.items()}


def _runs(terminal: np.ndarray, times: np.ndarray, good: np.ndarray, ordinary: np.ndarray) -> dict[str, np.ndarray]:
    """The unbroken run of ordinary-amount frauds that ends a terminal's known events, if any.

    Days since its first event, days since the last good event (before the run, or the newest known),
    days since the newest ordinary fraud, and the run's length; ages are as of each event.
    """
    seconds = times // MICRO
    low, delay = int(seconds.min()), micros(DELAY) // MICRO
    span = int(seconds.max()) - low + delay + 2
    base = np.unique(terminal, return_inverse=True)[1].astype(np.int64) * span + (seconds - low) + delay + 1
    use = np.flatnonzero((good > 0) | (ordinary > 0))
    use = use[np.argsort(base[use], kind="stable")]
    axis, fraud, key, second = base[use], ordinary[use] > 0, terminal[use], seconds[use]
    position = np.arange(len(use))
    begin = np.maximum.accumulate(np.where(np.append(True, key[1:] != key[:-1]), position, 0))
    last_good = np.maximum.accumulate(np.where(~fraud, position, -1))
    last_fraud = np.maximum.accumulate(np.where(fraud, position, -1))
    newest = np.searchsorted(axis, base - delay, side="right") - 1
    known = (newest >= 0) & (key[newest] == terminal)
    newest = np.where(known, newest, 0)

    def age(at: np.ndarray, valid: np.ndarray) -> np.ndarray:
        days = (seconds - second[np.where(valid, at, 0)]) / 86_400
        return np.minimum(np.where(valid, days, LONG_AGO), LONG_AGO)

    first = begin[newest]
    clean, bad = last_good[newest], last_fraud[newest]
    start = np.maximum(clean + 1, first)
    running = known & fraud[newest]
    return {
        "TERMINAL_RUN_AGE": age(start, running),
        "TERMINAL_RUN_LENGTH": np.log1p(np.where(running, newest - start + 1, 0)),
        "TERMINAL_GOOD_AGE": age(clean, known & (clean >= first)),
        "TERMINAL_FRAUD_AGE": age(bad, known & (bad >= first)),
    }
