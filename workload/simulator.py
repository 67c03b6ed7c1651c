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
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
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

ROW_GROUP = 250_000
NAMES = ("second", "customer", "terminal", "amount")

_Block = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def generate(scale: Mapping[str, int], out: Path) -> None:
    """Draw ``scale`` = {customers, terminals, days} and write one Parquet file, ordered by time.

    Columns TRANSACTION_ID (0, 1, ...), TX_DATETIME (microseconds, UTC without a zone), CUSTOMER_ID,
    TERMINAL_ID, TX_AMOUNT, TX_FRAUD (0/1) and TX_FRAUD_SCENARIO (0-3). The numbers of terminals and
    customers hit a day are 2 and 3 at the published scale and grow with the scale, so that the share of
    positives stays comparable; 1 is the least. In memory at once: a block of customers in each process,
    later the transactions of two weeks. Raises SeawayError for a scale that cannot be drawn.
    """
    size = {**PUBLISHED, **scale}
    for name, least in {"customers": 3, "terminals": 2, "days": 2}.items():
        if int(size[name]) < least:
            raise SeawayError(f"simulator: {name} is {size[name]}; the least that can be drawn is {least}")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".draw.", dir=out.parent) as folder, atomic_write(out) as temporary:
        _write(mark(Days(_draw(size, Path(folder))), size), temporary)


def _write(days: Iterable[Day], file: Path) -> None:
    """One Parquet file of marked days, a row group for every so many rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    start, first = np.datetime64(START, "us"), 0
    writer: pq.ParquetWriter | None = None
    held: list[pa.RecordBatch] = []
    try:
        for day in days:
            columns = {
                "TRANSACTION_ID": np.arange(first, first + len(day.second), dtype=np.int64),
                "TX_DATETIME": start + day.second.astype("timedelta64[s]"),
                "CUSTOMER_ID": day.customer,
                "TERMINAL_ID": day.terminal,
                "TX_AMOUNT": day.amount,
                "TX_FRAUD": (day.scenario > 0).astype(np.int64),
                "TX_FRAUD_SCENARIO": day.scenario,
            }
            first += len(day.second)
            held.append(pa.RecordBatch.from_pydict({name: pa.array(column) for name, column in columns.items()}))
            writer = writer or pq.ParquetWriter(file, held[0].schema, compression="zstd")
            if sum(batch.num_rows for batch in held) >= ROW_GROUP:
                writer.write_table(pa.Table.from_batches(held))
                held = []
        if writer:
            writer.write_table(pa.Table.from_batches(held, writer.schema))
    finally:
        if writer:
            writer.close()


def _draw(size: Mapping[str, int], folder: Path) -> list[Path]:
    """All transactions before any is marked: a file a block of consecutive customers, (4, n) by second."""
    customers, terminals, days = (int(size[name]) for name in ("customers", "terminals", "days"))
    # per customer, in this order: x, y, mean amount, payments a day
    low, high = np.array([0.0, 0.0, 5.0, 0.0]), np.array([100.0, 100.0, 100.0, 4.0])
    profiles = low + (high - low) * np.random.RandomState(0).random_sample((customers, 4))
    places = 100.0 * np.random.RandomState(1).random_sample((terminals, 2))
    blocks = [
        (first, profiles[first : first + CUSTOMERS_PER_BLOCK], places, days, folder / f"{first:09d}")
        for first in range(0, customers, CUSTOMERS_PER_BLOCK)
    ]
    workers = min(len(blocks), os.cpu_count() or 1)
    if customers <= 2 * PUBLISHED["customers"] or workers == 1:
        return [_save(*block) for block in blocks]
    # each customer has streams of its own, so processes change nothing but the time
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return list(pool.map(_save, *zip(*blocks, strict=True)))


def _save(first: int, profiles: np.ndarray, places: np.ndarray, days: int, folder: Path) -> Path:
    columns = _block(first, profiles, places, days)
    order = np.argsort(columns[0], kind="stable")
    folder.mkdir()
    for name, column in zip(NAMES, columns, strict=True):
        np.save(folder / f"{name}.npy", column[order])
    return folder


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


@dataclass
class Day:
    """The transactions of a day by time: second since the start, customer, terminal, amount, scenario; each (n,)."""

    second: np.ndarray
    customer: np.ndarray
    terminal: np.ndarray
    amount: np.ndarray
    scenario: np.ndarray


class Days:
    """The transactions of saved blocks by day; of the same second, those of earlier customers first."""

    def __init__(self, blocks: Sequence[Path]) -> None:
        self._blocks = [[np.load(block / f"{name}.npy", mmap_mode="r") for name in NAMES] for block in blocks]
        self.last = max((int(block[0][-1]) // DAY_SECONDS for block in self._blocks if len(block[0])), default=0)

    def day(self, number: int) -> Day:
        edges = number * DAY_SECONDS, (number + 1) * DAY_SECONDS
        spans = [slice(*np.searchsorted(block[0], edges)) for block in self._blocks]
        columns = [
            np.concatenate([block[i][span] for block, span in zip(self._blocks, spans, strict=True)])
            for i in range(len(NAMES))
        ]
        order = np.argsort(columns[0], kind="stable")
        second, customer, terminal, amount = (column[order] for column in columns)
        return Day(second, customer, terminal, amount, np.where(amount > LARGE_AMOUNT, 1, 0).astype(np.int64))


def mark(days: Days, size: Mapping[str, int]) -> Iterator[Day]:
    """Every day with the scenario of each transaction (0: none) and the amounts of scenario 3 multiplied.

    Later scenarios overwrite earlier ones. A day's picks are those of ``RandomState(day)``, and the
    payments of a copied card those of Python's generator seeded with the day.
    """
    hit_terminals = max(1, round(2 * int(size["terminals"]) / PUBLISHED["terminals"]))
    hit_customers = max(1, round(3 * int(size["customers"]) / PUBLISHED["customers"]))
    taken: deque[np.ndarray] = deque(maxlen=TERMINAL_DAYS)
    open_: deque[Day] = deque()
    loaded = 0
    for start in range(days.last):
        while loaded <= min(days.last, start + CUSTOMER_DAYS - 1):
            if loaded < days.last:
                draw = np.random.RandomState(loaded)
                taken.append(draw.choice(int(size["terminals"]), hit_terminals, replace=False))
            elif len(taken) == TERMINAL_DAYS:
                taken.popleft()  # nothing is picked on the last day
            day = days.day(loaded)
            day.scenario[np.isin(day.terminal, np.concatenate(taken))] = 2
            open_.append(day)
            loaded += 1
        picked = np.random.RandomState(start).choice(int(size["customers"]), hit_customers, replace=False)
        hit = [np.flatnonzero(np.isin(day.customer, picked)) for day in open_]
        ends = np.cumsum([len(rows) for rows in hit])
        chosen = np.sort(random.Random(start).sample(range(ends[-1]), ends[-1] // 3)).astype(np.int64)
        for day, rows, end, own in zip(
            open_, hit, ends, np.split(chosen, np.searchsorted(chosen, ends[:-1])), strict=True
        ):
            these = rows[own - (end - len(rows))]
            day.amount[these] *= 5
            day.scenario[these] = 3
        yield open_.popleft()
    yield from open_ if days.last else [days.day(0)]
