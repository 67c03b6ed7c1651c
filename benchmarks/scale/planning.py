"""What `seaway plan` says of a sweep on this machine, against that sweep: ``python -m benchmarks.scale.planning``.

A short sweep with successive halving is measured; from its trials alone, most of them stopped early, two others are
planned and then run: a longer one with successive halving and another seed, and one that trains every trial to its
end. Time is that of the whole step, Ray's start included; cost that of the cores which the trials held.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.scale import subject
from benchmarks.scale.bars import Result, main
from benchmarks.scale.sweeping import SLOTS, settled, swept
from components.tune.plan_curves import read
from components.tune.plan_fleet import Fleet
from components.tune.planning import planned
from seaway.cli.plan import HERE_BEGIN
from seaway.config import StepResources
from seaway.spend import Rates

SHORT = {"max_epochs": 9, "warm_start": 0}
MEASURED = {**SHORT, "trials": 40, "scheduler": "asha", "seed": 11}
PLANNED = (
    {**SHORT, "trials": 60, "scheduler": "asha", "seed": 5},
    {**SHORT, "trials": 60, "scheduler": "none", "seed": 6},
)
RATES = Rates(cpu=0.05, source="benchmark")
BAR = 20.0  # per cent


def plan(folder: Path, measured: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """What is planned of ``wanted`` from the measured sweep in ``folder``."""
    sweep = settled(folder, **wanted).workload.sweep
    curves = read(folder / "trials.parquet", sweep.metric, sweep.max_epochs, sweep.patience, space=sweep.space)
    once = curves.around(measured["seconds"], SLOTS, HERE_BEGIN)
    fleet = Fleet(SLOTS, SLOTS, begin=HERE_BEGIN, once=once, process=curves.process)
    made = planned(sweep, curves, fleet, (sweep.scheduler,), rates=RATES, node=StepResources(cpu=str(SLOTS)))
    return {"once": once, **made["schedulers"][sweep.scheduler]}


def off(name: str, said: list[float], real: float, unit: str) -> Result:
    low, middle, high = said
    detail = f"{middle:.3g} {unit} planned ({low:.3g} to {high:.3g}), {real:.3g} taken"
    return Result(name, 100 * abs(middle - real) / real, BAR, detail, unit="%")


def run() -> list[Result]:
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subject.made(folder)
        measured = swept(folder, folder / "measured", **MEASURED)
        print(f"measured: {measured['trials']} trials, {measured['stopped']} of them stopped, {measured['seconds']} s")
        for number, wanted in enumerate(PLANNED):
            said = plan(folder / "measured", measured, wanted)
            real = swept(folder, folder / f"real-{number}", **wanted)
            title = f"{wanted['trials']} trials, {wanted['scheduler']}"
            usd = RATES.cpu * real["cpu_seconds"] / 3600
            results += [
                off(f"planned time, {title}", said["seconds"], real["seconds"], "s"),
                off(f"planned cost, {title}", said["trials_usd"], usd, "USD"),
            ]
            print(f"{title}: {said['epochs'][1]:.0f} epochs planned, {real['epochs_trained']} trained; "
                  f"best {said['best'][1]:.4f} planned, {real['value']:.4f} found")  # fmt: skip
    middle = statistics.median(result.measured for result in results)
    print(f"off by {middle:.0f} %, the middle of {len(results)}")
    return results


if __name__ == "__main__":
    sys.exit(main(run))
