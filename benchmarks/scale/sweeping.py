"""A sweep of the benchmarks' subject in a process of its own: ``python -m benchmarks.scale.sweeping FOLDER OUT JSON``.

JSON: keys of workload.sweep. OUT gets what the step writes, and summary.json, which is the step's own summary.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.scale import subject
from seaway.config import Config

SLOTS = 2


def settled(out: Path, **sweep: Any) -> Config:
    """The subject's configuration on SLOTS cores, with its home in ``out``."""
    config, _ = subject.configured(out, **sweep)
    return config.model_copy(update={"compute": config.compute.model_copy(update={"cpus": SLOTS})})


def swept(folder: Path, out: Path, **sweep: Any) -> dict[str, Any]:
    """Run it and return its summary."""
    out.mkdir(parents=True)
    command = [sys.executable, "-m", "benchmarks.scale.sweeping", str(folder), str(out), json.dumps(sweep)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return json.loads((out / "summary.json").read_text())


def main() -> None:
    from components.tune.step import search
    from seaway.hooks import resolve

    folder, out, sweep = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    config = settled(out, **sweep)
    spec = resolve(config.workload.features, config.root)
    summary = search(config, spec, folder / "dataset", out)
    (out / "summary.json").write_text(json.dumps(summary))


if __name__ == "__main__":
    main()
