"""Open-loop replay of held-out events: one request a row at a set rate, whatever the answers do.

A request carries what a caller knows, and the event's id, by which its label is told later; the features
come from the online store. After the answer, good or bad, the event has happened and is pushed into the
feature stream. Two rules keep every served feature exactly the offline one: a request waits until earlier
events of its own entities are in the store, and until labels that are known by its time are in. Other
requests do not wait for it.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from seaway.features import FeatureSpec, micros
from seaway.online import request_of
from serving.substrate.base import PREDICTOR_HEADER
from serving.traffic_log import PredictionLog
from serving.wire_values import wire


class Stream(Protocol):
    """The online store's writer, as the replay uses it."""

    def push_events(self, rows: list[dict[str, Any]]) -> Any: ...

    def advance(self, now: int) -> Any: ...


@dataclass(frozen=True)
class Plan:
    """What is sent and how fast."""

    url: str  # of the deployment, without the prediction path
    rate: float  # requests a second
    limit: int | None = None  # rows at the most
    timeout: float = 5.0  # seconds, for one answer
    concurrency: int = 64
    push_every: float = 0.05
    flush_every: float = 2.0
    predictors: dict[str, str] = field(default_factory=dict)  # model version -> predictor


class Replay:
    """Sends ``rows`` (a data set's, with ``id`` and ``at``, int64 microseconds) in their order, from ``first``.

    ``arrivals``: sorted times at which Latest views get new values. The online store has only the newest,
    so a new value waits until the requests before it are answered.
    """

    def __init__(
        self,
        plan: Plan,
        spec: FeatureSpec,
        rows: Sequence[dict[str, Any]],
        stream: Stream,
        log: PredictionLog,
        first: int = 0,
        progress: Callable[[dict[str, Any]], None] = lambda numbers: None,
        arrivals: Sequence[int] = (),
    ) -> None:
        self.plan, self.spec, self.rows, self.stream, self.log = plan, spec, rows, stream, log
        self.first = self.next = first
        self.end = len(rows) if plan.limit is None else min(len(rows), plan.limit)
        self.progress = progress
        self.arrivals = arrivals
        self.push_failures = 0
        # events of an entity matter at once to windows without a delay, later to the others
        self._keys = sorted({w.key for w in spec.windows if micros(w.delay) == 0})
        self._last: dict[tuple[str, Any], asyncio.Future[None]] = {}
        self._pending: list[tuple[int, asyncio.Future[None]]] = []
        self._advanced: dict[int, asyncio.Future[Any]] = {}
        self._chunk = max(1, int(plan.rate / 2))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="feature-stream")

    async def run(self, stop: asyncio.Event) -> dict[str, Any]:
        """Send until the rows end or ``stop`` is set; all that was sent is answered, pushed and logged."""
        import aiohttp

        free = asyncio.Semaphore(self.plan.concurrency)
        tasks: set[asyncio.Task[None]] = set()
        began = time.monotonic()
        timeout = aiohttp.ClientTimeout(total=self.plan.timeout)
        connector = aiohttp.TCPConnector(limit=self.plan.concurrency)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector, trust_env=False) as session:
            housekeeping = [asyncio.create_task(self._push()), asyncio.create_task(self._flush(began))]
            try:
                while self.next < self.end and not stop.is_set():
                    row, due = self.next, began + (self.next - self.first) / self.plan.rate
                    if due > time.monotonic():
                        await asyncio.sleep(due - time.monotonic())
                    if (row - self.first) % self._chunk == 0:
                        self.log.reserve(min(self.end, row + self._chunk))
                    await (self._values(row, tasks) if self.spec.latest else self._labels(row))
                    await free.acquire()
                    task = asyncio.create_task(self._send(session, row, due, self._enter(row)))
                    tasks.add(task)
                    task.add_done_callback(lambda t: (tasks.discard(t), free.release()))
                    self.next = row + 1
                while tasks:
                    await asyncio.wait(set(tasks))
            finally:
                for task in housekeeping:
                    task.cancel()
                await asyncio.gather(*housekeeping, return_exceptions=True)
                await self._push_pending()
                self._thread.shutdown(wait=True)
                self.log.flush()
        return self._numbers(began)

    def _enter(self, row: int) -> tuple[list[asyncio.Future[None]], asyncio.Future[None]]:
        """Takes the row's place in its entities' queues: what it waits for, and what is set once it is pushed."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        keys = [(name, self.rows[row].get(name)) for name in self._keys]
        before = [self._last[key] for key in keys if key in self._last and not self._last[key].done()]
        for key in keys:
            self._last[key] = done
        return before, done

    async def _send(self, session: Any, row: int, due: float, place: tuple[list[Any], asyncio.Future[None]]) -> None:
        before, done = place
        if before:
            await asyncio.wait(before)
        event = self.rows[row]
        values = [wire(value) for value in request_of(self.spec, event).values()]
        body = {
            "data": {"names": list(self.spec.inputs), "ndarray": [values]},
            "meta": {"tags": {"features": True}, "puid": str(event["id"])},
        }
        sent = time.monotonic()
        record = {"row": row, "id": event["id"], "time": _moment(event["at"]), "status": 0}
        record["late_ms"] = round((sent - due) * 1e3, 3)
        try:
            async with session.post(f"{self.plan.url}/api/v1.0/predictions", json=body) as answer:
                record["predictor"] = answer.headers.get(PREDICTOR_HEADER)
                message = await answer.json(content_type=None)
                record["status"] = answer.status
                if answer.status == 200:
                    record |= self._read(message)
        except (TimeoutError, OSError, ValueError, *_client_errors()):
            record["status"] = record["status"] if record["status"] not in (0, 200) else 0
        record["latency_ms"] = round((time.monotonic() - sent) * 1e3, 3)
        self.log.add(record)
        self._pending.append((row, done))

    def _read(self, message: Any) -> dict[str, Any]:
        """What the log keeps of an answer; ValueError when it is not one."""
        try:
            table = message["data"]["ndarray"][0]
            tags = message.get("meta", {}).get("tags", {})
            version = str(tags["model_version"])
            found = {"version": version, "probability": float(table[0]), "decision": int(table[1])}
            found["features"] = tags["features"][0] if tags.get("features") else None
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(f"not an answer: {error}") from None
        if version in self.plan.predictors:
            found["predictor"] = self.plan.predictors[version]
        return found

    async def _labels(self, row: int) -> None:
        """Waits until labels known by the row's time are in; asks for the next chunk's ahead of need."""
        chunk = (row - self.first) // self._chunk
        for wanted in (chunk, chunk + 1):
            last = min(self.end, self.first + (wanted + 1) * self._chunk) - 1
            if wanted not in self._advanced and self.first + wanted * self._chunk < self.end:
                # windows compare times themselves: a label that is in early is not used early
                self._advanced[wanted] = self._call(self.stream.advance, self.rows[last]["at"])
        await self._advanced[chunk]
        self._advanced.pop(chunk - 1, None)

    async def _values(self, row: int, tasks: set[asyncio.Task[None]]) -> None:
        """With Latest views: lets in what is known by the row's time, after the requests before that."""
        at, before = self.rows[row]["at"], self.rows[row - 1]["at"] if row else 0
        if bisect_right(self.arrivals, at) > bisect_right(self.arrivals, before) and tasks:
            await asyncio.wait(set(tasks))
        await self._call(self.stream.advance, at)

    def _call(self, function: Callable[[Any], Any], argument: Any) -> asyncio.Future[Any]:
        """Runs in the stream's one thread, in the order asked; a failure is counted, not raised."""

        async def guarded() -> None:
            try:
                await asyncio.get_running_loop().run_in_executor(self._thread, function, argument)
            except Exception:  # the feature store may be down: the callers still want answers
                self.push_failures += 1

        return asyncio.ensure_future(guarded())

    async def _push(self) -> None:
        while True:
            await asyncio.sleep(self.plan.push_every)
            await self._push_pending()

    async def _push_pending(self) -> None:
        batch, self._pending = sorted(self._pending, key=lambda p: p[0]), []
        if batch:
            await asyncio.shield(self._call(self.stream.push_events, [self.rows[row] for row, _ in batch]))
            for _, done in batch:
                done.set_result(None)

    async def _flush(self, began: float) -> None:
        while True:
            await asyncio.sleep(self.plan.flush_every)
            self.log.flush()
            self.progress(self._numbers(began))

    def _numbers(self, began: float) -> dict[str, Any]:
        took = max(time.monotonic() - began, 1e-9)
        return {
            "first_row": self.first,
            "next_row": self.next,
            "rows": self.end,
            "rate": round((self.next - self.first) / took, 2),
            "seconds": round(took, 3),
            "push_failures": self.push_failures,
        }


def _client_errors() -> tuple[type[BaseException], ...]:
    import aiohttp

    return (aiohttp.ClientError,)


def _moment(at: int) -> Any:
    from datetime import datetime, timedelta

    return datetime(1970, 1, 1) + timedelta(microseconds=at)
