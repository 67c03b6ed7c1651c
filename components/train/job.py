"""What a training's RayJob runs on its cluster's head: ``python -m components.train.job URI``, the URI of job.json.

Its workers join the Ray that is there; it publishes the model and summary.json; see components.ray.jobs.
"""

from __future__ import annotations

import sys
from typing import Any

from components.ray import jobs
from components.train.step import train_here
from seaway.hooks import resolve


def train(given: jobs.Given) -> dict[str, Any]:
    config = given.config
    data = given.store.fetch(given.record["data"], config.home / "data")
    spec = resolve(config.workload.features, config.root)
    return train_here(config, spec, data, data, given.out / "model", given.address, given.told.write)


if __name__ == "__main__":
    sys.exit(jobs.main(train, sys.argv[1:]))
