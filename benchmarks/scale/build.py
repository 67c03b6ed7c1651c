"""One step of a build in a process of its own, timed, with its peak memory; and what such a build consists of.

``python -m benchmarks.scale.build '{"step": ..., "engine": ..., "folder": ..., "data": ..., "home": ...}'`` runs a step
and prints its seconds. Imports are not counted: a run of the pipeline has them whatever the engine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

STEPS = ("ingest", "validate", "features", "dataset")
GIB = 2**30


def build(folder: Path, data: Path, engine: str, home: Path, steps: tuple[str, ...] = STEPS) -> dict[str, dict]:
    """Run the steps one after the other on ``data``, a Parquet file or a folder of them: {step: record}.

    A record has seconds, ``work`` (seconds of processor, all threads), ``peak`` (the largest resident set of the
    step's processes, bytes) and about. Results are in ``folder``/<step>.
    """
    found = {}
    for step in steps:
        task = {"step": step, "engine": engine, "folder": str(folder), "data": str(data), "home": str(home)}
        command = [sys.executable, "-m", "benchmarks.scale.build", json.dumps(task)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        lines = child.stdout.read().splitlines()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise SystemExit(f"the step {step} of the build ended with {child.returncode}")
        found[step] = json.loads(lines[-1]) | {"peak": usage.ru_maxrss * 1024}
        shown = found[step]
        times = f"{shown['seconds']:.2f} s ({shown['work']:.2f} s of processor)"
        print(f"  {step}: {times}, peak {shown['peak'] / GIB:.2f} GiB, {shown['about']}", flush=True)
    return found


def seconds(found: dict[str, dict], steps: tuple[str, ...] = STEPS, of: str = "seconds") -> float:
    return sum(found[step][of] for step in steps)


def draw(scale: str, file: Path) -> None:
    """The workload's own draw at a scale of its file, in a process of its own."""
    script = (
        "import sys; from pathlib import Path; from seaway.config import load; from seaway.hooks import resolve; "
        "c = load(); w = c.workload; "
        "resolve(w.sources[w.source].generator, c.root)(dict(w.scales[sys.argv[1]]), Path(sys.argv[2]))"
    )
    began = time.perf_counter()
    code = f"if __name__ == '__main__':\n    {script}\n"  # its worker processes import this again
    made = file.with_suffix(".py")
    made.write_text(code)
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, str(made), scale, str(file)], check=True, cwd=root, env=environment)
    made.unlink()
    print(f"  drawn at {scale}: {file.stat().st_size / GIB:.2f} GiB in {time.perf_counter() - began:.0f} s", flush=True)


def _run(task: dict[str, Any]) -> dict[str, Any]:
    import pandera.polars
    import pandera.strategies.base_strategies  # noqa: F401 (at its first check; with Hypothesis, where that is installed)
    import polars  # noqa: F401

    from components.dataset.step import dataset
    from components.features.step import features
    from components.ingest.step import ingest
    from components.validate.step import validate
    from seaway.config import load
    from seaway.feast_import import import_feast
    from seaway.hooks import resolve

    if task["step"] == "dataset":
        import_feast()
        import seaway.feast_asof  # noqa: F401
    base = load()
    overrides = {"home": task["home"], "data": {"engine": task["engine"]}}
    config = load(overrides={**overrides, "workload": {"sources": {base.workload.source: {"path": task["data"]}}}})
    folder, workload = Path(task["folder"]), config.workload
    spec = resolve(workload.features, config.root)
    places = {step: folder / step for step in STEPS}
    calls = {
        "ingest": lambda: ingest(workload, config.root, "", places["ingest"], None, config),
        "validate": lambda: validate(
            workload, places["ingest"], places["validate"], folder / "quarantine.parquet", config
        ),
        "features": lambda: features(workload, spec, places["validate"], places["features"], config),
        "dataset": lambda: dataset(config, spec, places["features"], places["dataset"]),
    }
    began, work = time.perf_counter(), time.process_time()
    summary = calls[task["step"]]()
    took, work = time.perf_counter() - began, time.process_time() - work
    source = summary.get(workload.source, summary)
    rows = source.get("rows_good", source.get("rows", source.get("train", {}).get("rows")))
    about = f"{rows:,} rows" + (f", {summary['days_computed']} days computed" if "days_computed" in summary else "")
    return {"seconds": took, "work": work, "about": about}


if __name__ == "__main__":
    print(json.dumps(_run(json.loads(sys.argv[1]))))
