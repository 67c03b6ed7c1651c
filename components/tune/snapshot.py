"""What there is to see of a running sweep, as one plain record; and the same in one line. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.tune import population
from components.tune.budget import rates_of
from seaway.config import Config, StepResources
from seaway.metrics import LOWER_IS_BETTER
from seaway.spend import Rates, Use, spent, used, worth

Record = Mapping[str, Any]
_OVER = {"finished": "finished", "stopped early": "stopped", "failed": "failed", "ended": "ended"}
RECENT = 4  # trials that have ended, of which a snapshot tells
POINTS = 40  # of a curve


@dataclass(frozen=True)
class Sight:
    """What does not change while a sweep runs. ``resources``: of one trial; ``limit``: USD that it may cost."""

    trials: int
    metric: str
    max_epochs: int
    slots: int = 1
    resources: StepResources = field(default_factory=StepResources)
    rates: Rates = field(default_factory=Rates)
    limit: float | None = None
    dashboard: str = ""

    @classmethod
    def of(cls, config: Config, slots: int) -> Sight:
        sweep, budget = config.workload.sweep, config.budget
        return cls(
            population.trials(sweep) if sweep.scheduler == "pbt" else sweep.trials,
            sweep.metric,
            min(sweep.interval, sweep.max_epochs) if sweep.scheduler == "pbt" else sweep.max_epochs,
            slots,
            sweep.resources,
            rates_of(budget),
            budget.limit,
            config.ray.dashboard or "",
        )


def snapshot(
    sight: Sight, records: Sequence[Record], curve: Sequence[float], seconds: float, working: float
) -> dict[str, Any]:
    """``curve``: the best metric so far, as it grew; ``seconds`` since the start, ``working`` since the first epoch.

    Gives JSON-able values: counts by status, ``running`` and ``recent`` trials, ``best``, what was used and spent, and
    ``left``: seconds that are left at this pace, None while nobody can say.
    """
    sign = -1.0 if sight.metric in LOWER_IS_BETTER else 1.0
    use = sum((used(r, sight.resources) for r in records), Use())
    trained = sum(not e["replayed"] for r in records for e in r["epochs"])
    good = [r for r in records if r["epochs"] and r["status"] != "failed"]
    best = max(good, key=lambda r: (r["objective"], -r["index"]), default=None)
    over = [r for r in records if r["status"] in _OVER]
    made: dict[str, Any] = {
        "trials": sight.trials,
        "slots": sight.slots,
        "metric": sight.metric,
        "max_epochs": sight.max_epochs,
        **{name: sum(r["status"] == status for r in records) for status, name in _OVER.items()},
        "running": [_trial(r, sign, sight) for r in records if r["status"] == "running"],
        "recent": [_trial(r, sign, sight) for r in over[-RECENT:]],
        "epochs": trained,
        "kept": sum(len(r["epochs"]) for r in records) - trained,
        "best": {"trial": best["index"], "value": sign * best["objective"], "params": best["params"]} if best else None,
        "curve": thinned(curve),
        "cpu_seconds": use.cpu_seconds,
        "gpu_seconds": use.gpu_seconds,
        "usd": spent(records, sight.resources, sight.rates),
        "priced": not sight.rates.free,
        "limit": sight.limit,
        "seconds": seconds,
        "dashboard": sight.dashboard,
    }
    return made | {"left": _left(sight, over, made, working), "sure": bool(over)}


def _trial(record: Record, sign: float, sight: Sight) -> dict[str, Any]:
    values = [e.get(sight.metric) for e in record["epochs"] if not e.get("failed")]
    return {
        "trial": record["index"],
        "status": record["status"],
        "epoch": len(values),
        "value": sign * record["objective"] if values and record["status"] != "failed" else None,
        "curve": thinned([v for v in values if v is not None], 12),
        "usd": sight.rates.usd(used(record, sight.resources)),
        "attempts": record.get("attempts", 1),
        "error": str(record.get("error") or ""),
    }


def _left(sight: Sight, over: Sequence[Record], made: Mapping[str, Any], working: float) -> float | None:
    """Epochs that are left, as many a trial as those that are over had (all of them before one is), at this pace."""
    if not made["epochs"] or working <= 0:
        return None
    each = sum(len(r["epochs"]) for r in over) / len(over) if over else sight.max_epochs
    queued = max(0, sight.trials - len(over) - len(made["running"]))
    epochs = queued * each + sum(max(0.0, each - t["epoch"]) for t in made["running"])
    return epochs * working / made["epochs"]


def thinned(values: Sequence[float], most: int = POINTS) -> list[float]:
    """At most ``most`` of the values, evenly spaced, the last among them; rounded, as they are only drawn."""
    if len(values) > most:
        values = [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]
    return [float(f"{v:.5g}") for v in values]


def line(seen: Mapping[str, Any]) -> str:
    """For example: sweep: 3/8 trials (1 stopped early), 2 running, 41 epochs; best average_precision 0.7411 (trial 2);
    0.4 core-hours, 0.02 USD; 25 s, about 40 s left."""
    took = clock(seen["seconds"])
    if seen["best"] is None and not seen["failed"]:
        return f"sweep: starting Ray for {seen['trials']} trials; {took}"
    over = sum(seen[name] for name in _OVER.values())
    kinds = [f"{seen[n]} {w}" for n, w in (("stopped", "stopped early"), ("failed", "failed")) if seen[n]]
    told = f" ({', '.join(kinds)})" if kinds else ""
    kept = f" and {seen['kept']} kept from before" if seen["kept"] else ""
    running = f"{len(seen['running'])} running, {seen['epochs']} epochs{kept}"
    parts = [f"sweep: {over}/{seen['trials']} trials{told}, {running}"]
    if best := seen["best"]:
        parts.append(f"best {seen['metric']} {best['value']:.4f} (trial {best['trial']})")
    if seen["priced"]:
        parts.append(money(seen))
    return "; ".join([*parts, took + left(seen)])


def money(seen: Mapping[str, Any]) -> str:
    """What is spent, and of how much where there is a limit."""
    return worth(seen["usd"]) + (f" of {worth(seen['limit'])}" if seen["limit"] else "")


def left(seen: Mapping[str, Any], lead: str = ", ") -> str:
    if seen["left"] is None or not (seen["running"] or seen["left"]):
        return ""
    return f"{lead}{'about' if seen['sure'] else 'at the most'} {clock(seen['left'])} left"


def clock(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
