"""The replay: every row once, in its entities' order, with the features' history in place, whatever fails."""

import asyncio
import threading
import time

import pytest
from aiohttp import web

from seaway.features import MICRO, FeatureSpec, Latest, Request, Window
from serving.traffic import Plan, Replay
from serving.traffic_log import PredictionLog, summary

WINDOW = Window("person", "person", "person", "amount", "n_{n}", "mean_{n}", quantum=0.01, include_current=True)
SPEC = FeatureSpec(
    "tiny", "at_time", (Request("amount_now", "amount"),), (WINDOW,), inputs=("person", "amount", "at_time")
)
START = 1_700_000_000 * MICRO


def rows_of(persons, step=60):
    return [
        {
            "id": 100 + i,
            "at": START + i * step * MICRO,
            "person": p,
            "amount": 1.0 + i,
            "at_time": "2024-05-04T10:00:00",
        }
        for i, p in enumerate(persons)
    ]


class Stream:
    """Notes what was pushed and advanced, and takes its time over it."""

    def __init__(self, seconds=0.0, fails=False):
        self.pushed, self.now, self.seconds, self.fails = [], 0, seconds, fails
        self.threads = set()

    def push_events(self, rows):
        self.threads.add(threading.get_ident())
        time.sleep(self.seconds)
        if self.fails:
            raise RuntimeError("the store is down")
        self.pushed += [row["id"] for row in rows]

    def advance(self, now):
        self.threads.add(threading.get_ident())
        self.now = max(self.now, now)


class Server:
    """Answers like a deployment; ``behave(number)`` gives (status, seconds) of a request."""

    def __init__(self, stream, behave=lambda number: (200, 0.0)):
        self.stream, self.behave = stream, behave
        self.seen = []  # (amount, pushed before, advanced to)
        self.ids = []  # by which labels are told later

    async def answer(self, request):
        body = await request.json()
        assert body["data"]["names"] == list(SPEC.inputs) and body["meta"]["tags"]["features"]
        person, amount, _ = body["data"]["ndarray"][0]
        self.ids.append(body["meta"]["puid"])
        self.seen.append((amount, list(self.stream.pushed), self.stream.now))
        status, seconds = self.behave(len(self.seen) - 1)
        await asyncio.sleep(seconds)
        if status != 200:
            return web.json_response({"status": {"info": "no"}}, status=status, headers={"x-seaway-predictor": "v2"})
        tags = {"model_version": "1" if person % 2 else "2", "features": [[amount, 1.0, amount] + [0.0] * 4]}
        return web.json_response(
            {"data": {"names": ["probability", "decision"], "ndarray": [[0.25, 0]]}, "meta": {"tags": tags}}
        )


def play(tmp_path, rows, stream=None, behave=None, *, first=0, stop_after=None, spec=SPEC, arrivals=(), **plan):
    stream = stream or Stream()
    server = Server(stream, behave or (lambda number: (200, 0.0)))
    log = PredictionLog(tmp_path / "predictions")

    async def main():
        app = web.Application()
        app.router.add_post("/api/v1.0/predictions", server.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]
        stop = asyncio.Event()
        if stop_after:
            asyncio.get_running_loop().call_later(stop_after, stop.set)
        settings = {"rate": 400.0, "push_every": 0.01, "predictors": {"1": "v1", "2": "v2"}, **plan}
        try:
            replay = Replay(
                Plan(f"http://127.0.0.1:{port}", **settings), spec, rows, stream, log, first, arrivals=arrivals
            )
            return await replay.run(stop)
        finally:
            await runner.cleanup()

    numbers = asyncio.run(main())
    return numbers, server, stream, log.join(tmp_path / "predictions.parquet")


def test_every_row_once_at_the_set_rate_and_logged(tmp_path):
    rows = rows_of([i % 50 for i in range(200)])
    numbers, server, stream, table = play(tmp_path, rows)
    assert sorted(a for a, _, _ in server.seen) == [r["amount"] for r in rows]
    assert sorted(stream.pushed) == [r["id"] for r in rows] and len(stream.threads) == 1
    assert sorted(server.ids) == [str(r["id"]) for r in rows]
    assert table["row"].to_list() == list(range(200)) and table["id"].to_list() == [r["id"] for r in rows]
    assert table["features"].to_list()[7][0] == rows[7]["amount"]
    assert set(table["predictor"]) == {"v1", "v2"}
    assert numbers["next_row"] == 200 and numbers["rate"] == pytest.approx(400, rel=0.2)
    told = summary(table)
    assert told["sent"] == 200 and told["failed"] == 0 and told["by_predictor"]["v1"]["sent"] == 100


def test_a_request_waits_for_earlier_events_of_its_entity_and_for_no_other(tmp_path):
    rows = rows_of([1, 1, 2, 3, 1, 4])
    _, server, _, _ = play(tmp_path, rows, Stream(seconds=0.05))
    before = {amount: pushed for amount, pushed, _ in server.seen}
    assert 100 in before[2.0] and {100, 101} <= set(before[5.0])
    order = [amount for amount, _, _ in server.seen]
    assert order.index(3.0) < order.index(2.0) and order.index(6.0) < order.index(5.0)


def test_labels_known_by_a_requests_time_are_in_before_it(tmp_path):
    rows = rows_of(range(100))
    _, server, _, _ = play(tmp_path, rows, rate=200.0)
    at = {r["amount"]: r["at"] for r in rows}
    assert all(now >= at[amount] for amount, _, now in server.seen)


def test_latest_values_come_neither_late_nor_early(tmp_path):
    spec = FeatureSpec(
        "tiny",
        "at_time",
        SPEC.requests,
        SPEC.windows,
        (Latest("reading", "person", "person", "readings", {"x": "x"}),),
        SPEC.inputs,
    )
    rows = rows_of(range(20))
    arrivals = [rows[5]["at"] - 1, rows[12]["at"]]
    _, server, _, _ = play(tmp_path, rows, behave=lambda n: (200, 0.02), spec=spec, arrivals=arrivals)
    at = {r["amount"]: r["at"] for r in rows}
    for amount, _, now in server.seen:
        assert sum(t <= now for t in arrivals) == sum(t <= at[amount] for t in arrivals)


def test_failures_are_logged_once_and_their_events_still_happen(tmp_path):
    rows = rows_of(range(40))
    behave = {3: (500, 0.0), 5: (503, 0.0), 8: (200, 5.0)}
    _, server, stream, table = play(tmp_path, rows, behave=lambda n: behave.get(n, (200, 0.0)), timeout=2.0)
    assert len(server.seen) == 40 and sorted(stream.pushed) == [r["id"] for r in rows]
    assert sorted(table["status"].to_list())[:1] == [0] and summary(table)["failed"] == 3
    assert table.filter(status=500)["predictor"].to_list() == ["v2"]
    assert table.filter(status=500)["probability"].to_list() == [None]


def test_slow_answers_do_not_slow_the_sending(tmp_path):
    began = time.monotonic()
    _, _, _, table = play(tmp_path, rows_of(range(60)), behave=lambda n: (200, 0.3), rate=100.0)
    assert time.monotonic() - began < 2.5  # one after the other would be 18 s
    assert table["late_ms"].quantile(0.5) < 50


def test_a_store_that_fails_is_counted_and_the_callers_are_answered(tmp_path):
    numbers, server, _, table = play(tmp_path, rows_of([1, 1, 2, 2]), Stream(fails=True))
    assert numbers["push_failures"] > 0 and summary(table)["failed"] == 0 and len(server.seen) == 4


def test_stopped_and_gone_on_no_row_is_sent_twice(tmp_path):
    rows = rows_of([i % 7 for i in range(300)])
    numbers, server, stream, table = play(tmp_path, rows, stop_after=0.3, rate=200.0)
    assert 0 < numbers["next_row"] < 300 and table.height == numbers["next_row"]
    assert sorted(stream.pushed) == [r["id"] for r in rows[: numbers["next_row"]]]
    reserved = PredictionLog(tmp_path / "predictions").reserved()
    assert reserved >= numbers["next_row"]
    _, again, _, whole = play(tmp_path, rows, first=reserved)
    sent = [a for a, _, _ in server.seen + again.seen]
    assert len(sent) == len(set(sent))
    assert whole.height == numbers["next_row"] + 300 - reserved and whole["row"].is_unique().all()


def test_no_server_is_a_failed_request_and_no_end(tmp_path):
    async def main():
        replay = Replay(
            Plan("http://127.0.0.1:1", 200.0), SPEC, rows_of([1, 2, 3]), Stream(), PredictionLog(tmp_path / "p")
        )
        return await replay.run(asyncio.Event())

    assert asyncio.run(main())["next_row"] == 3
    assert PredictionLog(tmp_path / "p").table()["status"].to_list() == [0, 0, 0]
