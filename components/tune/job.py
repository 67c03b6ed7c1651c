"""What a sweep's RayJob runs on its cluster's head: ``python -m components.tune.job URI``, the URI of job.json.

It joins the Ray that is there, sweeps, and publishes best.json, trials.parquet and summary.json (components.ray.jobs).
"""

from __future__ import annotations

import sys
from typing import Any

from components.ray import jobs
from components.ray.needs import slots_of_job
from components.ray.place import Place
from components.tune.step import search
from seaway.hooks import resolve


def sweep(given: jobs.Given) -> dict[str, Any]:
    config, record = given.config, given.record
    dataset = given.store.fetch(record["data"], config.home / "dataset")
    gpu = bool(config.ray.worker.gpu)
    place = Place(given.address, slots_of_job(config), gpu, given.store, record["checkpoints"], given.told, memory=True)
    spec = resolve(config.workload.features, config.root)
    return search(config, spec, dataset, given.out, place=place, warm=record.get("warm", []))


if __name__ == "__main__":
    sys.exit(jobs.main(sweep, sys.argv[1:]))
