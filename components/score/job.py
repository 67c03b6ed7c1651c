"""What a scoring RayJob runs on its cluster's head: ``python -m components.score.job URI``, the URI of job.json.

It joins the Ray that is there, scores, and publishes summary.json. It tells of itself, and ends when nobody waits for
it any more, as a sweep's job does (components.tune.job).
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from pathlib import Path
from typing import Any

from components.score.cluster import from_json
from components.score.model import Model
from components.score.places import Place
from components.score.step import score_table
from components.tune.job import LOOK_S, PATIENCE_S, Told, failed, watch
from components.tune.rayjob import HOME
from seaway.artifacts import write_json
from seaway.config import Config, project_root
from seaway.errors import SeawayError
from seaway.storage import Storage


def main(arguments: list[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("uri")
    parser.add_argument("--digest", required=True, help="SHA-256 of the model's record")
    parser.add_argument("--endpoint")
    parser.add_argument("--region")
    parser.add_argument("--address", default="auto", help="of Ray")
    parser.add_argument("--home", type=Path, default=Path(HOME))
    options = parser.parse_args(arguments)
    store = Storage(options.uri.rpartition("/")[0], options.endpoint, options.region)
    record = json.loads(store.read(options.uri))
    watch(store, PATIENCE_S, LOOK_S)
    try:
        run(store, record, options.digest, options.address, options.home)
    except SeawayError as error:
        return failed(store, str(error))
    except Exception as error:
        traceback.print_exc()
        return failed(store, f"{type(error).__name__}: {error}")
    return 0


def run(store: Storage, record: dict[str, Any], digest: str, address: str, home: Path) -> None:
    """The rows of job.json scored, the summary published."""
    config = Config.model_validate(record["config"])
    ray = config.ray.model_copy(update={"substrate": "address", "address": address})
    config = config.model_copy(
        update={"home": home, "workload_file": project_root() / config.workload_file, "ray": ray}
    )
    model = Model(**from_json(store.read(record["model"]), digest))
    told = Told(store)
    data, out = Place.of(config, record["data"]), Place.of(config, record["out"])
    summary = score_table(config, model, data, out, tell=told.write)
    write_json(home / "result" / "summary.json", summary)
    store.publish(home / "result", store.join("result"), replace=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
