"""The replay in a process of its own, so that feature writes never delay the release's decisions.

``python -m serving.traffic_process JOB.json`` fills the online store as of the first row to send, says so
in its progress file, waits for the deployment's URL as one line on standard input, replays, and ends.
SIGTERM or the end of standard input stop it in order: what was sent is answered, pushed and logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seaway.artifacts import read_json, write_json
from seaway.config import Config, project_root
from seaway.errors import SeawayError
from seaway.features import MICRO, FeatureSpec
from seaway.processes import die_with_parent

PROGRESS, LOG = "traffic.json", "traffic.log"


class TrafficProcess:
    """Starts and watches the replay. ``job``: see ``job_record``; its folder gets the progress and the log."""

    def __init__(self, job: Mapping[str, Any]) -> None:
        self.folder = Path(job["folder"])
        self._job = dict(job)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / PROGRESS).unlink(missing_ok=True)
        path = self.folder / "traffic-job.json"
        write_json(path, {**self._job, "parent": os.getpid()})
        with (self.folder / LOG).open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "serving.traffic_process", str(path)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=project_root(),
                start_new_session=True,  # Ctrl-C is for the owner, who stops it in order
            )

    def wait_filled(self, timeout: float = 300.0) -> None:
        """Wait until the online store is filled; SeawayError with the process's last words otherwise."""
        deadline = time.monotonic() + timeout
        while not self.progress().get("filled"):
            if not self.alive():
                raise SeawayError(f"the traffic could not start: {self._last_words()}")
            if time.monotonic() > deadline:
                raise SeawayError(f"the online store was not filled within {timeout:.0f} s; see {self.folder / LOG}")
            time.sleep(0.05)

    def go(self, url: str) -> None:
        """Begin to send to the deployment at ``url``."""
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(f"{url}\n".encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            raise SeawayError(f"the traffic ended before it began: {self._last_words()}") from None

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def ended(self) -> bool:
        """Whether no more requests will come."""
        return not self.alive()

    def progress(self) -> dict[str, Any]:
        try:
            return read_json(self.folder / PROGRESS)
        except (FileNotFoundError, ValueError):
            return {}

    def stop(self, timeout: float = 20.0) -> dict[str, Any]:
        """Stop sending, wait until all is logged, and return the last progress record."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.terminate()
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            if self._process.stdin is not None:
                with contextlib.suppress(BrokenPipeError):
                    self._process.stdin.close()
        return self.progress()

    def _last_words(self) -> str:
        path = self.folder / LOG
        lines = path.read_text(errors="replace").strip().splitlines()[-3:] if path.exists() else []
        return " | ".join(lines) or f"no reason was given; see {path}"


def job_record(
    config: Config,
    *,
    folder: Path,
    dataset: Path,
    features: Path,
    store: Mapping[str, Any],
    predictors: Mapping[str, str],
    offset: int = 0,
    limit: int | None = None,
    rate: float | None = None,
) -> dict[str, Any]:
    """What the process needs to know, JSON-able. ``offset``: rows of dataset/replay.parquet to leave out."""
    return {
        "config": config.model_dump(mode="json"),
        "folder": str(folder),
        "rows": str(dataset / "replay.parquet"),
        "features": str(features),
        "store": dict(store),
        "predictors": dict(predictors),
        "offset": offset,
        "limit": config.release.requests if limit is None else limit,
        "rate": config.release.rate if rate is None else rate,
    }


def load_rows(
    path: Path, config: Config, spec: FeatureSpec, offset: int = 0, limit: int | None = None
) -> list[dict[str, Any]]:
    """The replayed events in order, each with all columns but the features, ``id`` and ``at`` (microseconds)."""
    import polars as pl

    source = config.workload.sources[config.workload.source]
    table = pl.read_parquet(path).sort("event_timestamp")[offset:]
    table = table if limit is None else table[:limit]
    table = table.drop([name for name in spec.names if name in table.columns])
    identity = pl.col(source.id) if source.id else pl.int_range(offset, offset + table.height)
    return table.with_columns(
        identity.alias("id"),
        pl.col("event_timestamp").cast(pl.Datetime("us")).to_physical().alias("at"),
    ).to_dicts()


def main(job_file: Path) -> int:
    job = read_json(job_file)
    die_with_parent(job["parent"])
    try:
        # one that lost its parent may still be putting its last answers in order
        with (Path(job["folder"]) / ".traffic.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _serve(job)
    except SeawayError as error:
        print(error, flush=True)
        return 2
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def _serve(job: dict[str, Any]) -> None:
    from seaway.hooks import resolve
    from serving.stream import FeatureStream
    from serving.traffic import Plan, Replay
    from serving.traffic_log import PredictionLog

    config = Config.model_validate(job["config"])
    spec = resolve(config.workload.features, config.root)
    folder = Path(job["folder"])
    log = PredictionLog(folder / "predictions")
    rows = load_rows(Path(job["rows"]), config, spec, job["offset"], job["limit"])
    if not rows:
        raise SeawayError(f"there are no rows to replay in {job['rows']} after the first {job['offset']}")
    first = log.reserved() or 0
    stream = FeatureStream(config, spec, Path(job["features"]), job["store"])
    stopped = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    def halt(*_: Any) -> None:
        stopped.set()
        loop.call_soon_threadsafe(stop.set)

    signal.signal(signal.SIGTERM, halt)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _fill(stream, rows, min(first, len(rows) - 1))
        write_json(folder / PROGRESS, {"filled": True, "first_row": first, "next_row": first, "rows": len(rows)})
        url = _first_line(stopped)
        if url is None or first >= len(rows):
            return
        threading.Thread(target=_until_closed, args=(halt,), daemon=True).start()
        plan = Plan(url, job["rate"], timeout=config.serving.timeout_ms / 1e3 + 3, predictors=job["predictors"])

        def report(numbers: dict[str, Any], final: bool = False) -> None:
            write_json(folder / PROGRESS, {"filled": True, "done": final, **numbers})

        arrivals = _arrivals(Path(job["features"]), spec)
        replay = Replay(plan, spec, rows, stream, log, first, report, arrivals)
        report(loop.run_until_complete(replay.run(stop)), final=True)
    finally:
        stream.close()


def _fill(stream: Any, rows: list[dict[str, Any]], first: int) -> None:
    """The store as the row ``first`` finds it: all that came before it has happened, it has not."""
    second = rows[first]["at"] // MICRO * MICRO
    stream.materialize(second)
    stream.push_events([row for row in rows[:first] if row["at"] >= second])  # earlier ones of its own second


def _arrivals(features: Path, spec: FeatureSpec) -> list[int]:
    """When the Latest views get new values: sorted int64 microseconds."""
    import polars as pl

    times: list[int] = []
    for view in spec.latest:
        column = pl.read_parquet(features / f"{view.view}.parquet", columns=["event_timestamp"])["event_timestamp"]
        times += column.cast(pl.Datetime("us")).to_physical().to_list()
    return sorted(times)


def _first_line(stopped: threading.Event) -> str | None:
    """The URL from standard input; None when it is closed or the process is told to stop."""
    import select

    while not stopped.is_set():
        if select.select([sys.stdin], [], [], 0.1)[0]:
            return sys.stdin.readline().strip() or None
    return None


def _until_closed(halt: Any) -> None:
    sys.stdin.read()
    halt()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
