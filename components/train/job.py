"""What a training's RayJob runs on its cluster's head: ``python -m components.train.job URI``, the URI of job.json.

Its workers join the Ray that is there; it publishes the model and summary.json. It tells of itself, and ends when
nobody waits for it any more, as a sweep's job does (components.tune.job).
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from pathlib import Path
from typing import Any

from components.train.step import train_here
from components.tune.job import LOOK_S, PATIENCE_S, Told, failed, watch
from components.tune.rayjob import HOME
from seaway.artifacts import write_json
from seaway.config import Config, project_root
from seaway.errors import SeawayError
from seaway.hooks import resolve
from seaway.storage import Storage


def main(arguments: list[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("uri")
    parser.add_argument("--endpoint")
    parser.add_argument("--region")
    parser.add_argument("--address", default="auto", help="of Ray")
    parser.add_argument("--home", type=Path, default=Path(HOME))
    options = parser.parse_args(arguments)
    store = Storage(options.uri.rpartition("/")[0], options.endpoint, options.region)
    record = json.loads(store.read(options.uri))
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
    """The model of job.json trained and published."""
    config = Config.model_validate(record["config"])
    config = config.model_copy(update={"home": home, "workload_file": project_root() / config.workload_file})
    data = store.fetch(record["data"], home / "data")
    out, told = home / "result", Told(store)
    told.write(f"train: {config.training.workers} workers train together")
    spec = resolve(config.workload.features, config.root)
    summary = train_here(config, spec, data, data, out / "model", address)
    write_json(out / "summary.json", summary)
    store.publish(out, store.join("result"), replace=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
