"""What an environment costs a month, from its node pools and a dated table of prices. Pure but for ``load``.

Three numbers, in USD: ``low`` (every pool at its minimum, spot at its cheapest), ``expected`` (nodes above the minimum
for the hours that the pool says) and ``high`` (every pool at its maximum all month, spot at its dearest). The expected
one is what a budget must cover; the high one is what the maxima allow, whatever happens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from seaway.config import Section, project_root
from seaway.errors import SeawayError

PRICES = project_root() / "config" / "prices.yaml"
LEFT_OUT = "traffic, object storage, databases and caches outside the cluster, logs, images, support, taxes"


class Spot(Section):
    """A spot machine's price as a share of the regular one."""

    low: float = Field(gt=0, le=1)
    expected: float = Field(gt=0, le=1)
    high: float = Field(gt=0, le=1)


class Cloud(Section):
    sources: tuple[str, ...] = Field(min_length=1)  # names of the price pages
    regions: dict[str, float]  # factor on all prices
    machines: dict[str, float]  # USD an hour
    accelerators: dict[str, float] = Field(default_factory=dict)  # USD an hour, each, beside the machine
    spot: Spot
    hourly: dict[str, float]  # USD an hour of other things, such as "control plane"
    disk: float  # USD a GB-month


class Prices(Section):
    date: date
    stale_after_days: int = 180
    hours: float = Field(default=730, gt=0, le=744)  # of a month
    clouds: dict[str, Cloud]

    def cloud(self, name: str) -> Cloud:
        if name not in self.clouds:
            raise SeawayError(
                f"config/prices.yaml has no cloud {name!r}; it has: {', '.join(self.clouds)}. Add it below `clouds`"
            )
        return self.clouds[name]

    def stale(self, today: date) -> bool:
        return (today - self.date).days > self.stale_after_days


@dataclass(frozen=True)
class Pool:
    """Equal nodes, from ``minimum`` to ``maximum`` of them."""

    name: str
    machine: str
    minimum: int
    maximum: int
    hours: float | None = None  # a month, of each node above the minimum; None: the whole month
    spot: bool = False
    disk_gb: float = 0  # of each node
    accelerator: str | None = None  # sold beside the machine
    accelerators: int = 0  # … of each node


@dataclass(frozen=True)
class Line:
    """USD a month of one thing."""

    name: str
    what: str
    low: float
    expected: float
    high: float


@dataclass(frozen=True)
class Estimate:
    cloud: str
    region: str
    date: str  # of the prices
    lines: tuple[Line, ...] = ()

    @property
    def monthly_low(self) -> float:
        return sum(line.low for line in self.lines)

    @property
    def monthly(self) -> float:
        """What a budget must cover."""
        return sum(line.expected for line in self.lines)

    @property
    def monthly_high(self) -> float:
        return sum(line.high for line in self.lines)

    def excess(self, budget: float) -> str:
        """Why the budget (USD a month) is too small, with the dearest line and what to do; "" where it is not."""
        if self.monthly <= budget:
            return ""
        dearest = max(self.lines, key=lambda line: line.expected)
        return (
            f"budget.monthly_usd: {budget:,.0f} is below the estimate of {self.monthly:,.0f} USD a month "
            f"(prices of {self.date}); the dearest is {dearest.name}: {dearest.what}, {dearest.expected:,.0f}. "
            "Raise the budget, or lower a pool's min, max, hours or machine; `seaway cost` shows every line"
        )

    def as_record(self) -> dict[str, Any]:
        """For JSON: all of it, and the totals, rounded to cents."""
        rows = [{k: round(v, 2) if isinstance(v, float) else v for k, v in asdict(line).items()} for line in self.lines]
        totals = {"low": self.monthly_low, "expected": self.monthly, "high": self.monthly_high}
        return {
            "cloud": self.cloud,
            "region": self.region,
            "prices": self.date,
            "lines": rows,
            "monthly_usd": {k: round(v, 2) for k, v in totals.items()},
            "left_out": LEFT_OUT,
        }


def estimate(
    pools: Iterable[Pool],
    prices: Prices,
    *,
    cloud: str,
    region: str,
    fixed: Mapping[str, float] | None = None,
    disks: Mapping[str, float] | None = None,
) -> Estimate:
    """The month of these pools; ``fixed``: count of each hourly item, ``disks``: name -> GB that are always there.

    Raises SeawayError for a cloud, region, machine type, accelerator or item that the table does not have.
    """
    table = prices.cloud(cloud)
    factor = _price(table.regions, region, f"clouds.{cloud}.regions", "a factor on the prices of the first region")
    lines = [_pool(pool, table, prices.hours, factor, cloud) for pool in pools]
    for name, count in (fixed or {}).items():
        usd = _price(table.hourly, name, f"clouds.{cloud}.hourly", "USD an hour") * factor * prices.hours * count
        lines.append(Line(name, f"{count:g} x {prices.hours:g} h", usd, usd, usd))
    for name, gb in (disks or {}).items():
        usd = table.disk * factor * gb
        lines.append(Line(name, f"{gb:g} GB", usd, usd, usd))
    return Estimate(cloud, region, prices.date.isoformat(), tuple(lines))


def machine_hour(
    prices: Prices,
    cloud: str,
    region: str,
    machine: str,
    *,
    accelerator: str | None = None,
    accelerators: int = 0,
    spot: bool = False,
) -> float:
    """USD an hour of one machine in its region, on spot at the expected share; raises as ``estimate``."""
    table = prices.cloud(cloud)
    factor = _price(table.regions, region, f"clouds.{cloud}.regions", "a factor on the prices of the first region")
    hourly = _node(table, cloud, machine, accelerator, accelerators, "USD an hour")
    return factor * hourly * (table.spot.expected if spot else 1.0)


def load(file: Path = PRICES) -> Prices:
    """The table of prices; SeawayError naming the file and the keys that are not as they should be."""
    try:
        return Prices.model_validate(yaml.safe_load(file.read_text()))
    except FileNotFoundError:
        raise SeawayError(f"the table of prices {file} does not exist: restore it from the repository") from None
    except yaml.YAMLError as error:
        raise SeawayError(f"{file} is not valid YAML: {error}") from None
    except ValidationError as error:
        wrong = "\n  ".join(f"key {'.'.join(map(str, e['loc']))!r}: {e['msg']}" for e in error.errors())
        raise SeawayError(f"{file} is no table of prices:\n  {wrong}") from None


def _pool(pool: Pool, table: Cloud, month: float, factor: float, cloud: str) -> Line:
    hourly = _node(table, cloud, pool.machine, pool.accelerator, pool.accelerators, f"pool {pool.name}; USD an hour")
    share = table.spot if pool.spot else Spot(low=1, expected=1, high=1)
    more = pool.maximum - pool.minimum
    busy = month if pool.hours is None else min(pool.hours, month)

    def usd(node_hours: float, spot: float) -> float:
        return factor * node_hours * (hourly * spot + table.disk * pool.disk_gb / month)

    nodes = f"{pool.minimum}" if not more else f"{pool.minimum}–{pool.maximum}"
    what = f"{nodes} x {pool.machine}"
    if pool.accelerator and pool.accelerators:
        what += f" + {pool.accelerators} {pool.accelerator}"
    what += (", spot" if pool.spot else "") + (f", {busy:g} h above {pool.minimum}" if more and busy < month else "")
    expected = pool.minimum * month + more * busy
    return Line(
        pool.name,
        what,
        usd(pool.minimum * month, share.low),
        usd(expected, share.expected),
        usd(pool.maximum * month, share.high),
    )


def _node(table: Cloud, cloud: str, machine: str, accelerator: str | None, accelerators: int, unit: str) -> float:
    """USD an hour of a machine with its accelerators, in the first region."""
    hourly = _price(table.machines, machine, f"clouds.{cloud}.machines", unit)
    if accelerator:
        where = f"clouds.{cloud}.accelerators"
        hourly += accelerators * _price(table.accelerators, accelerator, where, "USD an hour, each")
    return hourly


def _price(table: Mapping[str, float], key: str, where: str, unit: str) -> float:
    if key in table:
        return table[key]
    alike = get_close_matches(key, table, n=4)
    raise SeawayError(
        f"config/prices.yaml has no {key!r} below {where} ({unit}); it has: {', '.join(alike or table)}. "
        f"Choose one of these, or add a line `{key}: …` there"
    )
