"""What the steps of a run have used and cost, and what the next run will: from the records of earlier ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from components.tune.budget import held, rates_of
from seaway.artifacts import read_json
from seaway.config import Config, StepResources, Sweep
from seaway.spend import Forecast, Rates, Use, cores

RECENT = 3  # runs that a forecast goes by
Step = Mapping[str, Any]


def known_by(config: Config) -> dict[str, Any]:
    """What must be alike for one run to foretell another's times, and what its sweep was asked for."""
    sweep = config.workload.sweep
    sources = {name: source.path or config.scale for name, source in config.workload.sources.items()}
    return {
        "data": sources,
        "place": config.ray.substrate if not config.pipeline.host else f"{config.ray.substrate}, pods",
        "sweep": {
            "scheduler": sweep.scheduler,
            "max_epochs": sweep.max_epochs,
            "epochs": _epochs(sweep),
            "cpu": cores(sweep.resources),
        },
    }


def _epochs(sweep: Sweep) -> int:
    """At the most, of all trials."""
    return (sweep.population if sweep.scheduler == "pbt" else sweep.trials) * sweep.max_epochs


def cost_of(step: Step, config: Config) -> dict[str, float]:
    """``cpu_seconds``, ``gpu_seconds`` and ``usd`` that a step's end cost in this run; ``work_usd`` of its result.

    A skipped step costs nothing now; its result was worked for in an earlier run.
    """
    rates = rates_of(config.budget)
    seconds = float(step.get("work_seconds") or step.get("seconds") or 0.0)
    use, usd = _worked(step, seconds, config, rates)
    if step["status"] == "skipped":
        return {"cpu_seconds": 0.0, "gpu_seconds": 0.0, "usd": 0.0, "work_usd": usd}
    return {"cpu_seconds": use.cpu_seconds, "gpu_seconds": use.gpu_seconds, "usd": usd, "work_usd": usd}


def _worked(step: Step, seconds: float, config: Config, rates: Rates) -> tuple[Use, float]:
    """What a step that took ``seconds`` used: its own resources all that time, and what it tells of Ray's."""
    own = Use.of(config.pipeline.resources.get(step["name"], StepResources()), seconds)
    told = Use.read(step.get("summary") or {})
    if told is None:
        return own, rates.usd(own)
    if config.ray.substrate == "local":  # trials and workers run inside the step
        used = Use(max(own.cpu_seconds, told.cpu_seconds), max(own.gpu_seconds, told.gpu_seconds))
        return used, rates.usd(used)
    cluster = held(config, rates) * seconds / 3600 if step["name"] == "tune" else 0.0  # a RayJob's nodes, busy or not
    return own + told, rates.usd(own) + max(rates.usd(told), cluster)


def history(config: Config) -> list[dict[str, Any]]:
    """Records of runs and sweeps of the same workload, data and place, the newest first."""
    alike = {"workload": config.workload.name} | {k: v for k, v in known_by(config).items() if k != "sweep"}
    files = [*(config.home / "runs").glob("*/run.json"), *(config.home / "runs").glob("*/sweep.json")]
    found = filter(None, map(_read, sorted(files, key=lambda file: file.parent.name, reverse=True)))
    return [record for record in found if all(record.get(key) == value for key, value in alike.items())]


def _read(file: Path) -> dict[str, Any] | None:
    try:
        return read_json(file)
    except (OSError, ValueError):
        return None


def foretold(name: str, config: Config, records: list[dict[str, Any]]) -> Forecast:
    """The step ``name`` of the next run, by the middle one of the newest that worked."""
    rates = rates_of(config.budget)
    worked = list(_worked_before(name, records))[:RECENT]
    if not worked:
        return Forecast(name, None, why="no earlier run")
    if name == "tune":
        return _sweep(config, rates, *worked[0])
    each = [_work_seconds(step) for step, _ in worked]
    seconds = median(each)
    step = dict(min(worked, key=lambda pair: abs(_work_seconds(pair[0]) - seconds))[0])
    use, usd = _worked(step, seconds, config, rates)
    return Forecast(name, seconds, use, usd, usd, f"as in run {worked[0][1]['run']}")


def _sweep(config: Config, rates: Rates, step: Step, record: Mapping[str, Any]) -> Forecast:
    """As an earlier sweep: seconds an epoch, and of the epochs that there may be the same part, if all is alike."""
    sweep, before, summary = config.workload.sweep, record["sweep"], step["summary"]
    epochs, most = max(1, summary["epochs_trained"] + summary["epochs_kept"]), _epochs(sweep)
    alike = sweep.scheduler == before["scheduler"] and not summary.get("ended")
    expected = most * (epochs / before["epochs"] if alike else 1.0)
    # one that went on from an earlier one's epochs did not take the time of all of them
    took = max(_work_seconds(step), summary["cpu_seconds"] / before["cpu"] / (summary.get("slots") or 1))

    def of(factor: float) -> tuple[float, Use, float]:
        seconds = took * factor
        told = (Use.read(summary) or Use()) * factor
        scaled = {"name": "tune", "summary": {"cpu_seconds": told.cpu_seconds, "gpu_seconds": told.gpu_seconds}}
        use, usd = _worked(scaled, seconds, config, rates)
        return seconds, use, min(usd, config.budget.limit or usd)

    seconds, use, usd = of(expected / epochs)
    why = f"{round(expected)} epochs of at the most {most}, by run {record['run']}"
    return Forecast("tune", seconds, use, usd, of(most / epochs)[2], why)


def _worked_before(name: str, records: list[dict[str, Any]]) -> Iterator[tuple[Step, dict[str, Any]]]:
    """The step's ends, each piece of work once, with the record of its run."""
    seen = set()
    for record in records:
        for step in record.get("steps") or []:
            if step["name"] != name or step.get("status") not in ("done", "skipped") or not _work_seconds(step):
                continue
            if name == "tune" and not _tells(step, record):
                continue
            key = step.get("key") or record["run"]
            if key not in seen:
                seen.add(key)
                yield step, record


def _tells(step: Step, record: Mapping[str, Any]) -> bool:
    """Whether a sweep says how many epochs there were: records of other versions may not."""
    asked, done = record.get("sweep") or {}, step.get("summary") or {}
    return {"epochs", "cpu", "scheduler"} <= set(asked) and {"epochs_trained", "epochs_kept", "cpu_seconds"} <= set(
        done
    )


def _work_seconds(step: Step) -> float:
    return float(step.get("work_seconds") or step.get("seconds") or 0.0)
