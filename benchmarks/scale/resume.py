"""A sweep that is killed at half-way against one that is not: ``python -m benchmarks.scale.resume``.

The process that asked for it gets SIGKILL once half of the trials have ended, and the sweep is asked for again. What
it may lose is what running trials have done since their last checkpoint, which is made after each epoch: no epoch
that had ended may be trained twice. Trials, their points and every metric must be those of the undisturbed sweep.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

from benchmarks.scale import subject
from benchmarks.scale.bars import Result, main

TRIALS = 16
RUN = """
import json, sys
from pathlib import Path
from benchmarks.scale.subject import configured
from components.tune.step import tune

config, spec = configured(Path(sys.argv[1]), trials=int(sys.argv[3]), warm_start=0)
config = config.model_copy(update={"home": Path(sys.argv[4]) / "home"})
print(json.dumps(tune(config, spec, Path(sys.argv[2]), Path(sys.argv[4]))))
"""


def run() -> list[Result]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset = subject.made(folder)
        started = time.perf_counter()
        whole = summary(begun(folder, dataset, folder / "whole"))
        undisturbed = time.perf_counter() - started

        process = begun(folder, dataset, folder / "killed")
        while len(states(folder / "killed")) <= TRIALS // 2:  # the next one has begun: so many have ended, but for two
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        at = time.time()
        before = states(folder / "killed")
        open_ = sorted(at - file.stat().st_mtime for file in before)[:2]
        started = time.perf_counter()
        resumed = summary(begun(folder, dataset, folder / "killed"))
        rest = time.perf_counter() - started
        tables = [table(folder / side) for side in ("whole", "killed")]
    had = sum(epochs for epochs in before.values())
    again = had + resumed["epochs_trained"] - whole["epochs_trained"]
    points = [t.select("trial", *whole["params"]).unique().sort("trial") for t in tables]
    n = min(p.height for p in points)
    other = abs(points[0].height - points[1].height) + int((points[0][:n] != points[1][:n]).sum_horizontal().sum())
    detail = f"killed with {len(before)} trials begun and {had} of {whole['epochs_trained']} epochs kept"
    lost = f"work of at most {sum(open_):.1f} s was open; {undisturbed:.1f} s undisturbed, {rest:.1f} s for the rest"
    metric = float((tables[0] != tables[1]).sum_horizontal().sum()) if tables[0].shape == tables[1].shape else 1.0
    return [
        Result("resume: trials missing", whole["trials"] - resumed["trials"], 0, detail, ""),
        Result("resume: other points than undisturbed", other, 0, f"{n} points compared", ""),
        Result("resume: other values in the table of epochs", metric, 0, f"{tables[0].height} rows compared", ""),
        Result("resume: ended epochs trained twice", again, 0, lost, ""),
    ]


def begun(folder: Path, dataset: Path, out: Path) -> subprocess.Popen:
    out.mkdir(exist_ok=True)
    command = [sys.executable, "-c", RUN, str(folder), str(dataset), str(TRIALS), str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def summary(process: subprocess.Popen) -> dict:
    said, _ = process.communicate()
    assert process.returncode == 0, said
    return json.loads(said.splitlines()[-1])


def states(out: Path) -> dict[Path, int]:
    """Epochs in the state of each trial that has one."""
    from safetensors import safe_open

    found = {}
    for file in out.glob("home/sweeps/*/[0-9]*.safetensors"):
        with safe_open(file, "np") as content:
            found[file] = len(json.loads(content.metadata()["seaway"])["history"])
    return found


def table(out: Path) -> pl.DataFrame:
    return pl.read_parquet(out / "trials.parquet").drop("seconds", "cpu_seconds", "gpu_seconds", "attempts")


if __name__ == "__main__":
    sys.exit(main(run))
