"""A pipeline of three real steps on a few generated rows; as a script it runs once, for tests that kill it."""

import json
import sys
from pathlib import Path

from kfp import dsl

from components.features.component import features
from components.ingest.component import ingest
from components.validate.component import validate
from pipelines.run import run_pipeline
from seaway.config import Config, load

WORKLOAD = """
name: small
root: .
source: events
sources:
  events:
    path: events.csv
    id: id
    time: at
    columns:
      id: {type: int, minimum: 0}
      at: {type: datetime}
      thing: {type: int}
      size: {type: float, minimum: 0}
      bad: {type: int, allowed: [0, 1]}
scale: none
entities: {thing: thing}
label: {column: bad, delay: 1d}
feature_repo: repo
features: spec:FEATURES
model: model
quarantine_limit: 0.2
sweep: {space: {}}
"""

# waits while a file called "wait" is there, so that a test can kill the step that imports it
SPEC = """
import time
from pathlib import Path
from seaway.features import FeatureSpec, Request, Window

here = Path(__file__).parent
(here / "imported").touch()
while (here / "wait").exists():
    time.sleep(0.05)
FEATURES = FeatureSpec(
    version="small_v1",
    time="at",
    inputs=("thing", "size", "at"),
    requests=(Request("SIZE", column="size"),),
    windows=(Window(view="thing", entity="thing", key="thing", value="size", count="N_{n}", mean="MEAN_{n}",
                    windows=("1d",), quantum=0.5, include_current=True),),
)
"""


@dsl.pipeline(name="small")
def pipeline(config: str, run: str):
    raw = ingest(config=config)
    valid = validate(config=config, raw=raw.outputs["out"])
    features(config=config, valid=valid.outputs["out"])


def write_workload(folder: Path, rows: int = 40, bad_rows: int = 0) -> Path:
    """A workload of ``rows`` events, of which ``bad_rows`` have a negative size."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["id,at,thing,size,bad"]
    for n in range(rows):
        size = -1 if n < bad_rows else n % 4 + 0.5
        lines.append(f"{n},2024-01-{n % 20 + 1:02d} 10:00:{n:02d},{n % 3},{size},{n % 2}")
    (folder / "events.csv").write_text("\n".join(lines) + "\n")
    (folder / "workload.yaml").write_text(WORKLOAD)
    (folder / "spec.py").write_text(SPEC)
    return folder / "workload.yaml"


def config_of(folder: Path) -> Config:
    return load(workload=folder / "workload.yaml", overrides={"home": str(folder / "home")})


if __name__ == "__main__":
    print(json.dumps(run_pipeline(pipeline, config_of(Path(sys.argv[1])))))
