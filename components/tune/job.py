"""What a RayJob runs on its cluster's head: ``python -m components.tune.job URI``, the URI of job.json.

It joins the Ray that is there, sweeps, and publishes best.json, trials.parquet and summary.json. What it has to say
goes to object storage, where the step that handed it in reads it: lines of progress, or why it failed. It ends when
that step has shown no sign of life for ``PATIENCE_S``: a cluster must not go on for nobody.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from components.tune import rayjob
from components.tune.place import Place
from components.tune.step import search
from seaway.artifacts import write_json
from seaway.config import Config, project_root
from seaway.errors import SeawayError
from seaway.hooks import resolve
from seaway.storage import Storage

PATIENCE_S = 900.0
LOOK_S = 30.0


def main(arguments: list[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("uri")
    parser.add_argument("--endpoint")
    parser.add_argument("--region")
    parser.add_argument("--address", default="auto", help="of Ray")
    parser.add_argument("--home", type=Path, default=Path(rayjob.HOME))
    options = parser.parse_args(arguments)
    store = Storage(options.uri.rpartition("/")[0], options.endpoint, options.region)
    record = json.loads(store.read(options.uri))
    store = Storage(record["at"], options.endpoint, options.region)
    watch(store, PATIENCE_S, LOOK_S)
    try:
        run(store, record, options.address, options.home)
    except SeawayError as error:
        return failed(store, str(error))
    except Exception as error:
        traceback.print_exc()
        return failed(store, f"{type(error).__name__}: {error}")
    return 0


def run(store: Storage, record: dict[str, Any], address: str, home: Path) -> None:
    """The sweep of job.json, its result published."""
    config = Config.model_validate(record["config"])
    config = config.model_copy(update={"home": home, "workload_file": project_root() / config.workload_file})
    dataset, out = store.fetch(record["data"], home / "dataset"), home / "result"
    place = Place(
        address,
        rayjob.slots(config),
        bool(config.ray.worker.gpu),
        store,
        record["checkpoints"],
        Told(store),
    )
    out.mkdir(parents=True, exist_ok=True)
    spec, warm = resolve(config.workload.features, config.root), record.get("warm", [])
    summary = search(config, spec, dataset, out, place=place, warm=warm)
    write_json(out / "summary.json", summary)
    store.publish(out, store.join("result"), replace=True)


class Told(io.TextIOBase):
    """A stream whose newest line stands in the object ``progress``, and in the job's log; a snapshot in ``seen``."""

    def __init__(self, store: Storage) -> None:
        self._store = store

    def write(self, text: str) -> int:
        line = text.strip()
        if line:
            print(line, file=sys.stderr, flush=True)
            self._put("progress", line)
        return len(text)

    def show(self, seen: dict[str, Any]) -> None:
        """Keep what a terminal draws of the sweep, see components.tune.snapshot."""
        self._put("seen", json.dumps(seen))

    def _put(self, name: str, text: str) -> None:
        try:
            self._store.write(self._store.join(name), text.encode())
        except SeawayError as error:
            print(error, file=sys.stderr)


def watch(store: Storage, patience: float, every: float) -> threading.Thread:
    """End this process once ``watched`` has not changed for ``patience`` seconds by this machine's own clock."""

    def look() -> None:
        known, since = b"", time.monotonic()
        while time.monotonic() - since < patience:
            time.sleep(every)
            try:
                found = store.read(store.join("watched"))
            except SeawayError:
                continue  # unreadable counts as unchanged
            if found != known:
                known, since = found, time.monotonic()
        failed(store, f"nobody has waited for this sweep for {patience:.0f} s, so it has ended")
        os._exit(1)

    thread = threading.Thread(target=look, daemon=True, name="watched")
    thread.start()
    return thread


def failed(store: Storage, text: str) -> int:
    print(text, file=sys.stderr, flush=True)
    try:
        store.write(store.join("error"), text.encode())
    except SeawayError as error:
        print(error, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
