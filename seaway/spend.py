"""What compute costs: prices of an hour, what trials and steps have used, what a sweep or a run will cost. All pure.

A core's hour and a GPU's hour have a price each (``budget.cpu_hour``, ``budget.gpu_hour``), or they are parts of one
machine of config/prices.yaml (``budget.machine``). Of a machine the larger part counts: what takes its only GPU and
one of its eight cores leaves nothing that another could use, and pays all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from seaway.config import Budget, StepResources
from seaway.cost import Prices, machine_hour

HOUR = 3600.0


def cores(resources: StepResources) -> float:
    """The number of cores, of a text such as ``2``, ``1.5`` or ``500m``."""
    text = resources.cpu
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


@dataclass(frozen=True)
class Use:
    """Resources held for a time: cores x seconds and GPUs x seconds."""

    cpu_seconds: float = 0.0
    gpu_seconds: float = 0.0

    def __add__(self, other: Use) -> Use:
        return Use(self.cpu_seconds + other.cpu_seconds, self.gpu_seconds + other.gpu_seconds)

    def __mul__(self, factor: float) -> Use:
        return Use(self.cpu_seconds * factor, self.gpu_seconds * factor)

    @classmethod
    def of(cls, resources: StepResources, seconds: float) -> Use:
        return cls(cores(resources) * seconds, resources.gpu * seconds)

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Use | None:
        """The use that a record tells (cpu_seconds, gpu_seconds); None for one that does not."""
        if record.get("cpu_seconds") is None:
            return None
        return cls(float(record["cpu_seconds"]), float(record.get("gpu_seconds") or 0.0))


@dataclass(frozen=True)
class Rates:
    """USD an hour of one core and of one GPU. ``shared``: both are parts of a machine, and the larger part counts."""

    cpu: float = 0.0
    gpu: float = 0.0
    shared: bool = False
    source: str = ""  # for people; "": no price is set

    @property
    def free(self) -> bool:
        return not (self.cpu or self.gpu)

    def hourly(self, cpus: float, gpus: float = 0.0) -> float:
        """USD an hour of so many cores and GPUs that one thing holds together."""
        parts = (cpus * self.cpu, gpus * self.gpu)
        return max(parts) if self.shared else sum(parts)

    def usd(self, use: Use) -> float:
        """Of one thing that held the same all the time; of several things, add what each costs."""
        return self.hourly(use.cpu_seconds, use.gpu_seconds) / HOUR

    def as_record(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def read(cls, record: Mapping[str, Any] | None) -> Rates:
        """From ``as_record``; no price at all from None."""
        return cls(**record) if record else cls()


def rates(budget: Budget, prices: Prices | None) -> Rates:
    """The prices of ``budget``. SeawayError for a machine, region or accelerator that ``prices`` does not have.

    ``prices`` may be None where ``budget.machine`` is not set. A spot machine costs the table's expected share.
    """
    if not budget.machine:
        named = [name for name in ("cpu_hour", "gpu_hour") if getattr(budget, name)]
        return Rates(budget.cpu_hour, budget.gpu_hour, False, " and ".join(f"budget.{name}" for name in named))
    hour = machine_hour(
        prices,
        budget.cloud,
        budget.region,
        budget.machine,
        accelerator=budget.accelerator,
        accelerators=budget.gpus,
        spot=budget.spot,
    )
    gpu = hour / budget.gpus if budget.gpus else 0.0
    more = f" + {budget.gpus} {budget.accelerator}" if budget.accelerator else ""
    source = f"{budget.machine}{more}, {budget.cloud} {budget.region}{', spot' if budget.spot else ''}, {prices.date}"
    return Rates(hour / budget.cpus, gpu, True, source)


def price(resources: StepResources, budget: Budget, prices: Prices | None) -> float:
    """USD an hour of something that holds ``resources``, by the prices of ``budget``; raises as ``rates``."""
    return rates(budget, prices).hourly(cores(resources), resources.gpu)


def used(trial: Mapping[str, Any], resources: StepResources) -> Use:
    """What one trial has used: what its record tells, else the seconds of its epochs on ``resources``.

    A trial's record: {epochs: [{seconds: since the trial's start}], cpu_seconds, gpu_seconds}.
    """
    told = Use.read(trial)
    if told is not None:
        return told
    epochs = trial.get("epochs") or []
    return Use.of(resources, float(epochs[-1]["seconds"]) if epochs else 0.0)


def spent(trials: Iterable[Mapping[str, Any]], resources: StepResources, rates: Rates) -> float:
    """USD of all trials, each with what it has used, also in earlier attempts."""
    return sum(rates.usd(used(trial, resources)) for trial in trials)


@dataclass(frozen=True)
class Forecast:
    """What one step will take. ``seconds``: None where nobody can say; ``most_usd``: if nothing is stopped early."""

    step: str
    seconds: float | None
    use: Use = field(default_factory=Use)
    usd: float = 0.0
    most_usd: float = 0.0
    why: str = ""


@dataclass(frozen=True)
class Estimate:
    """What a run or a sweep will take, step by step; ``unchanged`` steps take nothing."""

    forecasts: tuple[Forecast, ...]
    rates: Rates
    unchanged: tuple[str, ...] = ()

    @property
    def unknown(self) -> list[str]:
        return [f.step for f in self.forecasts if f.seconds is None]

    @property
    def seconds(self) -> float:
        return sum(f.seconds or 0.0 for f in self.forecasts)

    @property
    def use(self) -> Use:
        return sum((f.use for f in self.forecasts), Use())

    @property
    def usd(self) -> float:
        return sum(f.usd for f in self.forecasts)

    @property
    def most_usd(self) -> float:
        return sum(f.most_usd for f in self.forecasts)

    def question(self, budget: Budget) -> str:
        """Why somebody must agree first; "" where nobody must.

        What nobody can tell must be agreed to as well, unless everything is free.
        """
        if self.rates.free:
            return ""
        if self.usd > budget.ask_above:
            return f"the estimate of {worth(self.usd)} is above budget.ask_above ({worth(budget.ask_above)})"
        if self.unknown:
            return f"what it will cost cannot be told: there is no earlier run of {', '.join(self.unknown)} to go by"
        return ""

    def as_record(self) -> dict[str, Any]:
        return {
            "seconds": round(self.seconds, 1),
            "usd": self.usd,
            "most_usd": self.most_usd,
            "unknown": self.unknown,
            "steps": {f.step: {"seconds": f.seconds, "usd": f.usd} for f in self.forecasts},
        }


def worth(usd: float) -> str:
    """An amount for people: ``0.0042``, ``0.37``, ``12.50``, ``1,240`` USD."""
    if not usd:
        return "0 USD"
    if usd < 0.01:
        return f"{usd:.2g} USD" if usd >= 0.0001 else "< 0.0001 USD"
    return f"{usd:.2f} USD" if usd < 1000 else f"{usd:,.0f} USD"
