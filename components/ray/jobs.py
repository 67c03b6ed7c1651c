"""A step by a RayJob, whichever step: how it is handed in, and what its entry point does on the cluster's head.

Both sides meet in object storage. Below a job's own place lie ``job.json`` (what to do), ``result/`` and the small
objects ``watched`` (this side is alive), ``progress``, ``seen`` and ``error``. components.ray.kuberay follows the job.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shlex
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.ray import rayjob
from components.ray.kuberay import Job
from seaway.artifacts import canonical_json, record_hash, write_json
from seaway.closure import code_of
from seaway.config import Config, project_root
from seaway.errors import SeawayError
from seaway.storage import Storage

PATIENCE_S = 900.0
LOOK_S = 30.0


def shared_storage(config: Config) -> Storage:
    """Where both sides of a job keep what they hand on. Raises SeawayError where the configuration has none."""
    store = Storage.of(config)
    if store is None:
        raise SeawayError("ray.substrate is kuberay, whose pods share no files: set storage.uri, such as s3://bucket/x")
    return store


def made_by(config: Config, *modules: str) -> str:
    """What a result is of beside its inputs: hash of all code behind ``modules`` and of the lock, and the image."""
    return record_hash([code_of(*modules, also=config.root), config.ray.image])


def run(
    config: Config, what: str, at: str, record: Mapping[str, Any], more: Sequence[str] = (), stale: Sequence[str] = ()
) -> None:
    """Hand in the job ``what`` (a key of rayjob.KINDS), whose place is ``at``, and follow it to its end.

    Its name is the last part of ``at``. ``record``: what job.json holds beside ``at`` and the configuration, the URI
    ``data`` among it; ``more``: further arguments of its entry point; ``stale``: as for components.ray.kuberay.Job.
    Raises SeawayError with the job's own words when it fails.
    """
    store, whole = shared_storage(config), job_record(config, what, at, record)
    store.write(f"{at}/job.json", canonical_json(whole).encode())
    Job(config, store, at, manifest(config, what, whole, more)).run(stale)


def job_record(config: Config, what: str, at: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """What job.json holds: the configuration as the job's image reads it, and where everything is."""
    return {**record, "at": at, "config": for_pods(config, what).model_dump(mode="json")}


def manifest(config: Config, what: str, record: Mapping[str, Any], more: Sequence[str] = ()) -> dict[str, Any]:
    """The RayJob that runs components.<step>.job for a record of job.json."""
    at = record["at"]
    entry = ["python", "-m", f"components.{rayjob.KINDS[what].step}.job", f"{at}/job.json", *more]
    for option, value in (("--endpoint", config.storage.endpoint), ("--region", config.storage.region)):
        entry += [option, value] if value else []
    files = {"job": f"{at}/job.json", "data": record["data"], "result": f"{at}/result"}
    return rayjob.ray_job(config, at.rpartition("/")[2], shlex.join(entry), files, what)


def for_pods(config: Config, what: str) -> Config:
    """The configuration for the job's image, which has the project at a place of its own: paths relative to it."""
    root, file = project_root(), config.workload_file
    shared = (config.storage.uri or "").startswith("file:")  # pods that share this machine's files see it where it is
    if file.is_relative_to(root):
        file = file.relative_to(root)
    elif rayjob.KINDS[what].code and not shared:
        raise SeawayError(
            f"the workload's file {file} is not in {root}, so the image of the job lacks it: move it there, "
            "with the code that it names, and build the images anew (`make images`)"
        )
    return config.model_copy(update={"home": Path(rayjob.HOME), "workload_file": file})


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


@dataclass(frozen=True)
class Given:
    """What a job has to do: its record of job.json, where, with what; ``out`` is published when it is done."""

    store: Storage  # the job's place
    record: dict[str, Any]
    config: Config
    address: str  # of the Ray that is there
    digest: str
    told: Told

    @property
    def out(self) -> Path:
        return self.config.home / "result"


def main(do: Callable[[Given], dict[str, Any]], arguments: Sequence[str]) -> int:
    """The entry point of a job that ``do`` does, which returns the summary; the exit code.

    It ends when whoever handed it in has shown no sign of life for ``PATIENCE_S``: a cluster must not go on for nobody.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("uri", help="of job.json")
    parser.add_argument("--digest", default="", help="SHA-256 of what a job must not take from anybody else")
    parser.add_argument("--endpoint")
    parser.add_argument("--region")
    parser.add_argument("--address", default="auto", help="of Ray")
    parser.add_argument("--home", type=Path, default=Path(rayjob.HOME))
    options = parser.parse_args(arguments)
    store = Storage(options.uri.rpartition("/")[0], options.endpoint, options.region)
    record = json.loads(store.read(options.uri))
    watch(store, PATIENCE_S, LOOK_S)
    try:
        config = Config.model_validate(record["config"])
        file = project_root() / config.workload_file
        config = config.model_copy(update={"home": options.home, "workload_file": file})
        given = Given(store, record, config, options.address, options.digest, Told(store))
        given.out.mkdir(parents=True, exist_ok=True)
        write_json(given.out / "summary.json", do(given))
        store.publish(given.out, store.join("result"), replace=True)
    except SeawayError as error:
        return failed(store, str(error))
    except Exception as error:
        traceback.print_exc()
        return failed(store, f"{type(error).__name__}: {error}")
    return 0


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
        failed(store, f"nobody has waited for this job for {patience:.0f} s, so it has ended")
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
