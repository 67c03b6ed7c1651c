"""What a scoring RayJob runs on its cluster's head: ``python -m components.score.job URI``, the URI of job.json.

It joins the Ray that is there, scores, and publishes summary.json; see components.ray.jobs.
"""

from __future__ import annotations

import sys
from typing import Any

from components.ray import jobs
from components.score.cluster import from_json
from components.score.model import Model
from components.score.places import Place
from components.score.step import score_table


def score(given: jobs.Given) -> dict[str, Any]:
    ray = given.config.ray.model_copy(update={"substrate": "address", "address": given.address})
    config, record = given.config.model_copy(update={"ray": ray}), given.record
    model = Model(**from_json(given.store.read(record["model"]), given.digest))
    data, out = Place.of(config, record["data"]), Place.of(config, record["out"])
    return score_table(config, model, data, out, tell=given.told.write)


if __name__ == "__main__":
    sys.exit(jobs.main(score, sys.argv[1:]))
