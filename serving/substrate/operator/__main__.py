"""The operator's process: ``python -m serving.substrate.operator --home DIR --owner PID ...``.

It ends, with everything it started, on SIGTERM, on SIGINT and when its owner is gone.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

import aiohttp
from aiohttp import web

from seaway.artifacts import read_json, write_json
from seaway.errors import SeawayError
from serving.substrate.operator.child import start_time
from serving.substrate.operator.pages import Pages
from serving.substrate.operator.proxy import Proxy
from serving.substrate.operator.reconcile import Operator
from serving.substrate.store import ObjectStore


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--owner", type=int, required=True)
    parser.add_argument("--python", type=Path, required=True)
    parser.add_argument("--envoy", type=Path, required=True)
    parser.add_argument("--timeout-ms", type=int, default=2000)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--edges-ms", type=int, nargs="+", required=True)
    arguments = parser.parse_args()
    run = arguments.home / "run"
    run.mkdir(parents=True, exist_ok=True)
    with (run / "lock").open("a+") as lock:
        if not _acquire(lock):
            print(f"{arguments.home} is being served already, by process {_holder(lock)[0]}", file=sys.stderr)
            return 3
        lock.truncate(0)
        lock.write(f"{os.getpid()} {arguments.owner}")
        lock.flush()
        _sweep(run)
        # short, since sockets live in it: their paths are limited to 108 characters
        scratch = Path(tempfile.mkdtemp(prefix="seaway-"))
        try:
            asyncio.run(_serve(arguments, run, scratch))
        except SeawayError as error:
            print(error, file=sys.stderr)
            return 2
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            (run / "operator.json").unlink(missing_ok=True)
    return 0


def _acquire(lock: IO[str], patience: float = 10.0) -> bool:
    """The lock of the home; an operator whose owner was killed is given a moment to clean up."""
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            owner = _holder(lock)[1]
            if time.monotonic() > deadline or (owner and start_time(owner)):
                return False
            time.sleep(0.05)


def _holder(lock: IO[str]) -> tuple[int, int]:
    """Process ids of the operator that holds the lock and of its owner; 0 while it has not written them."""
    lock.seek(0)
    operator, _, owner = lock.read().partition(" ")
    return int(operator or 0), int(owner or 0)


def _sweep(run: Path) -> None:
    """Remove what an operator that was killed left: its scratch folder, and any process it had started."""
    try:
        left = read_json(run / "operator.json")
    except (FileNotFoundError, ValueError):
        left = {}
    for pid, started in left.get("children", []):
        if started is not None and start_time(pid) == started:
            os.kill(pid, signal.SIGKILL)
    scratch = Path(left.get("scratch", ""))
    if scratch.name.startswith("seaway-") and scratch.parent == Path(tempfile.gettempdir()):
        shutil.rmtree(scratch, ignore_errors=True)
    (run / "operator.json").unlink(missing_ok=True)
    shutil.rmtree(run / "envoy", ignore_errors=True)


async def _serve(arguments: argparse.Namespace, run: Path, scratch: Path) -> None:
    logs = arguments.home / "logs"
    proxy = Proxy(arguments.envoy, run / "envoy", logs / "envoy.log", tuple(arguments.edges_ms), arguments.port)
    store = ObjectStore(arguments.home / "objects")
    operator = Operator(store, proxy, arguments.python, scratch, logs, arguments.timeout_ms)
    loop = asyncio.get_running_loop()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, operator.stopping.set)
    timeout = aiohttp.ClientTimeout(total=2)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        await proxy.start(session)
        runner = web.AppRunner(Pages(operator, session).application(), access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        address = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
        record = {"pid": os.getpid(), "address": address, "scratch": str(scratch)}
        watch = asyncio.create_task(_watch(operator, arguments.owner, run / "operator.json", record))
        try:
            await operator.run(session)
        finally:
            watch.cancel()
            await runner.cleanup()


async def _watch(operator: Operator, owner: int, file: Path, record: dict[str, object]) -> None:
    """Stop when the owner is gone, and keep the record of what runs up to date."""
    written: object = None
    while True:
        if os.getppid() != owner:
            operator.stopping.set()
        running = [s.child for s in operator.servers.values()] + [operator.proxy.child]
        children = [[c.pid, start_time(c.pid)] for c in running if c]
        if children != written:
            write_json(file, record | {"children": children})
            written = children
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
