"""The pipeline against plain calls of the same functions: what the machinery costs a step.

``python -m benchmarks.pipeline_overhead [--rounds N]``. Steps ingest, validate, features and dataset of the
demo workload at scale tiny; both sides in processes of their own, alternating. Overhead a step = (pipeline -
plain) / steps, both without the import of KFP, which a run pays once and which is printed beside. A second
run of the same pipeline gives the cost of a skipped step.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STEPS = ("ingest", "validate", "features", "dataset")


def config(home: Path):
    from seaway.config import load

    return load(overrides={"scale": "tiny", "home": str(home)})


def plain(home: Path) -> dict:
    """The four functions, called one after the other in this process."""
    import importlib

    settings, started, spent = config(home), time.perf_counter(), cpu()
    from seaway.hooks import resolve

    spec = resolve(settings.workload.features, settings.root)
    functions = {name: getattr(importlib.import_module(f"components.{name}.step"), name) for name in STEPS}
    raw, valid, table = home / "raw", home / "valid", home / "features"
    functions["ingest"](settings.workload, settings.root, settings.scale, raw)
    functions["validate"](settings.workload, raw, valid, home / "quarantine")
    functions["features"](settings.workload, spec, valid, table)
    functions["dataset"](settings, spec, table, home / "dataset")
    return {"seconds": time.perf_counter() - started, "cpu": cpu() - spent}


def pipeline(home: Path) -> dict:
    """The same as a KFP pipeline on the local runner, then once more with nothing changed."""
    started = time.perf_counter()
    from kfp import dsl, kubernetes, local  # noqa: F401

    import components.dataset.component as dataset
    import components.features.component as features
    import components.ingest.component as ingest
    import components.validate.component as validate
    from pipelines.run import run_pipeline

    @dsl.pipeline(name="overhead")
    def training(config: str, run: str):
        raw = ingest.ingest(config=config)
        valid = validate.validate(config=config, raw=raw.outputs["out"])
        table = features.features(config=config, valid=valid.outputs["out"])
        dataset.dataset(config=config, features=table.outputs["out"])

    imports = time.perf_counter() - started
    settings = config(home)
    spent = [cpu()]
    runs = []
    for _ in range(2):
        runs.append(run_pipeline(training, settings, on_event=lambda _: None))
        spent.append(cpu())
    first, again = runs
    assert all(step["status"] == "done" for step in first["steps"])
    assert all(step["status"] == "skipped" for step in again["steps"])
    return {
        "seconds": first["seconds"],
        "again": again["seconds"],
        "imports": imports,
        "inside": sum(step["work_seconds"] for step in first["steps"]),
        "cpu": spent[1] - spent[0],
        "cpu_again": spent[2] - spent[1],
    }


def measure(side: str) -> dict:
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "benchmarks.pipeline_overhead", "--side", side, "--home", home]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(printed.splitlines()[-1])


def cpu() -> float:
    """CPU seconds of this process and of those it has waited for; other work on the machine does not count."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=["plain", "pipeline"])
    parser.add_argument("--home", type=Path)
    args = parser.parse_args()
    if args.side:
        print(json.dumps({"plain": plain, "pipeline": pipeline}[args.side](args.home)))
        return
    rounds = [(measure("plain"), measure("pipeline")) for _ in range(args.rounds)]

    def median(side: int, key: str) -> float:
        return statistics.median(r[side][key] for r in rounds)

    steps = len(STEPS)
    rows = [
        ("plain calls, one process", median(0, "seconds"), median(0, "cpu")),
        ("pipeline on the local runner", median(1, "seconds"), median(1, "cpu")),
        ("a skipped step", median(1, "again") / steps, median(1, "cpu_again") / steps),
    ]
    rows.append(("overhead a step (bar: 0.50 s)", *((rows[1][n] - rows[0][n]) / steps for n in (1, 2))))
    print(f"{f'{steps} steps, medians of {args.rounds}':34}   wall s    CPU s")
    for title, wall, spent in rows:
        print(f"{title:34} {wall:8.2f} {spent:8.2f}")
    print(f"{'importing KFP, once a run':34} {median(1, 'imports'):8.2f}")


if __name__ == "__main__":
    main()
