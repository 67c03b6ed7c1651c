"""The public card-transaction simulator: the published data set, drawn again.

The process, its parameters and its order of random draws are those described by the Fraud Detection
Handbook (Le Borgne, Siblini, Lebichot, Bontempi 2022, chapter "Simulated dataset"). The default scale
gives the published 1,754,155 transactions row for row, which rests on numpy's and Python's legacy
generators: their streams are frozen, so no draw may be reordered, batched or moved to another generator.

Customers and terminals lie on a 100 x 100 plane. A customer pays at terminals nearer than 5, a Poisson
number of times a day, at a time around noon, with an amount around a mean of the customer's own. Three
scenarios then mark transactions: amounts above 220; terminals taken over for 28 days; customers whose
card is copied for 14 days, a third of whose payments are multiplied by five.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from seaway.artifacts import atomic_write
from seaway.errors import SeawayError

START = datetime(2018, 4, 1)
PUBLISHED = {"customers": 5_000, "terminals": 10_000, "days": 183}
RADIUS = 5.0
DAY_SECONDS = 86_400
LARGE_AMOUNT = 220.0
TERMINAL_DAYS, CUSTOMER_DAYS = 28, 14
CUSTOMERS_PER_BLOCK = 1_000

_Block = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def generate(scale: Mapping[str, int], out: Path) -> None:
    """Draw ``scale`` = {customers, terminals, days} and write one Parquet file, ordered by time.

    Columns TRANSACTION_ID (0, 1, ...), TX_DATETIME (microseconds, UTC without a zone), CUSTOMER_ID,
    TERMINAL_ID, TX_AMOUNT, TX_FRAUD (0/1) and TX_FRAUD_SCENARIO (0-3). The numbers of terminals and
    customers hit a day are 2 and 3 at the published scale and grow with the scale, so that the share of
    positives stays comparable; 1 is the least. Raises SeawayError for a scale that cannot be drawn.
    """
    import polars as pl

    size = {**PUBLISHED, **scale}
    for name, least in {"customers": 3, "terminals": 2, "days": 2}.items():
        if int(size[name]) < least:
            raise SeawayError(f"simulator: {name} is {size[name]}; the least that can be drawn is {least}")
    second, customer, terminal, amount = _transactions(size)
    order = np.argsort(second, kind="stable")
    second, customer, terminal, amount = (column[order] for column in (second, customer, terminal, amount))
    scenario = _mark(second // DAY_SECONDS, customer, terminal, amount, size)
    start = np.datetime64(START, "us")
    frame = pl.DataFrame(
        {
            "TRANSACTION_ID": np.arange(len(second), dtype=np.int64),
            "TX_DATETIME": start + second.astype("timedelta64[s]"),
            "CUSTOMER_ID": customer,
            "TERMINAL_ID": terminal,
            "TX_AMOUNT": amount,
            "TX_FRAUD": (scenario > 0).astype(np.int64),
            "TX_FRAUD_SCENARIO": scenario,
        }
    )
    with atomic_write(out) as temporary:
        frame.write_parquet(temporary)


def _transactions(size: Mapping[str, int]) -> _Block:
    """All transactions before any is marked, customer by customer: second, customer, terminal, amount."""
    customers, terminals, days = (int(size[name]) for name in ("customers", "terminals", "days"))
    # per customer, in this order: x, y, mean amount, payments a day
    low, high = np.array([0.0, 0.0, 5.0, 0.0]), np.array([100.0, 100.0, 100.0, 4.0])
    profiles = low + (high - low) * np.random.RandomState(0).random_sample((customers, 4))
    places = 100.0 * np.random.RandomState(1).random_sample((terminals, 2))
    blocks = [
        (first, profiles[first : first + CUSTOMERS_PER_BLOCK], places, days)
        for first in range(0, customers, CUSTOMERS_PER_BLOCK)
    ]
    workers = min(len(blocks), os.cpu_count() or 1)
    if customers <= 2 * PUBLISHED["customers"] or workers == 1:
        parts = [_block(*block) for block in blocks]
    else:  # each customer has streams of its own, so processes change nothing but the time
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            parts = list(pool.map(_block, *zip(*blocks, strict=True)))
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))  # type: ignore[return-value]


def _block(first: int, profiles: np.ndarray, places: np.ndarray, days: int) -> _Block:
    """The transactions of consecutive customers, the first of which has the number ``first``."""
    seconds: list[int] = []
    counts: list[int] = []
    terminal: list[int] = []
    amounts: list[float] = []
    for number, (x, y, mean, rate) in enumerate(profiles.tolist(), start=first):
        distance = np.sqrt((places[:, 0] - x) ** 2 + (places[:, 1] - y) ** 2)
        near = np.flatnonzero(distance < RADIUS).tolist()
        before = len(seconds)
        if near:
            _pay(number, mean, rate, near, days, seconds, terminal, amounts)
        counts.append(len(seconds) - before)
    customer = np.repeat(np.arange(first, first + len(counts), dtype=np.int64), counts)
    return (
        np.array(seconds, np.int64),
        customer,
        np.array(terminal, np.int64),
        np.round(np.array(amounts, np.float64), 2),
    )


def _pay(
    number: int,
    mean: float,
    rate: float,
    near: list[int],
    days: int,
    seconds: list[int],
    terminals: list[int],
    amounts: list[float],
) -> None:
    """Append one customer's payments. Two streams, both seeded with the customer's number."""
    stream, choose = np.random.RandomState(number), random.Random(number).choice
    poisson, gauss, spread = stream.poisson, stream.standard_normal, mean / 2
    for midnight in range(0, days * DAY_SECONDS, DAY_SECONDS):
        for _ in range(poisson(rate)):
            second = int(43_200 + 20_000 * gauss())
            if not 0 < second < DAY_SECONDS:
                continue  # dropped, and nothing more is drawn for it
            amount = mean + spread * gauss()
            if amount < 0:
                amount = stream.uniform(0, mean * 2)
            seconds.append(midnight + second)
            amounts.append(amount)
            terminals.append(choose(near))


def _mark(
    day: np.ndarray, customer: np.ndarray, terminal: np.ndarray, amount: np.ndarray, size: Mapping[str, int]
) -> np.ndarray:
    """The scenario of each transaction (0: none); multiplies the amounts of scenario 3 in place.

    Later scenarios overwrite earlier ones. A day's picks are those of ``RandomState(day)``, and the
    payments of a copied card those of Python's generator seeded with the day.
    """
    scenario = np.where(amount > LARGE_AMOUNT, 1, 0).astype(np.int64)
    last = int(day.max()) if len(day) else 0
    hit_terminals = max(1, round(2 * int(size["terminals"]) / PUBLISHED["terminals"]))
    hit_customers = max(1, round(3 * int(size["customers"]) / PUBLISHED["customers"]))
    edges = np.searchsorted(day, np.arange(last + max(TERMINAL_DAYS, CUSTOMER_DAYS) + 1))
    for start in range(last):
        picked = np.random.RandomState(start).choice(int(size["terminals"]), hit_terminals, replace=False)
        span = slice(edges[start], edges[start + TERMINAL_DAYS])
        scenario[span][np.isin(terminal[span], picked)] = 2
    for start in range(last):
        picked = np.random.RandomState(start).choice(int(size["customers"]), hit_customers, replace=False)
        first = edges[start]
        found = first + np.flatnonzero(np.isin(customer[first : edges[start + CUSTOMER_DAYS]], picked))
        chosen = random.Random(start).sample(found.tolist(), len(found) // 3)
        amount[chosen] *= 5
        scenario[chosen] = 3
    return scenario
