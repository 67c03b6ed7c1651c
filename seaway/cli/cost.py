"""``seaway cost``: what an environment costs a month, reckoned from its settings and the dated table of prices."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from seaway import cost as reckon

if TYPE_CHECKING:
    from infra.settings import Settings

_ABOUT = (
    "Reckons the month of an environment from the node pools in infra/cluster/Pulumi.ENV.yaml, the volumes and the "
    "gateway in infra/Pulumi.ENV.yaml and the prices in config/prices.yaml. It asks no cloud. The budget is "
    "budget.monthly_usd of infra/Pulumi.ENV.yaml, and must cover the expected month."
)
_WIDTHS = (26, 42, 9, 9, 9)
_BAR = 30


def add(verbs: argparse._SubParsersAction) -> None:
    verb = verbs.add_parser(
        "cost", help="what an environment costs a month, and its budget", description=_ABOUT,
        epilog="Exit codes: 0 within the budget, 1 above it, 2 a machine type or a region has no price.",
    )  # fmt: skip
    verb.add_argument("--env", metavar="ENV", help="dev, staging or prod (default: all, one line each)")
    verb.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    verb.set_defaults(call=cost)


def cost(args: argparse.Namespace) -> int:
    from infra.cluster.estimate import of_platform
    from infra.settings import FOLDER, of_stack

    prices = reckon.load()
    names = [args.env] if args.env else [p.name.split(".")[1] for p in FOLDER.glob("Pulumi.*.yaml")]
    settings = {name: of_stack(name) for name in names}
    names.sort(key=lambda name: settings[name].budget.monthly_usd)
    months = {name: of_platform(read, prices) for name, read in settings.items()}
    if args.json:
        documents = {name: _document(months[name], settings[name]) for name in names}
        print(json.dumps(documents[args.env] if args.env else documents, indent=2))
    elif args.env:
        print("\n".join(_table(args.env, months[args.env], settings[args.env])))
    else:
        print("\n".join(_overview(months, settings)))
    if prices.stale(datetime.now(UTC).date()) and not args.json:
        print(f"\nThe prices are of {prices.date}: look at the pages named in config/prices.yaml, and correct them.")
    return 1 if any(months[name].excess(settings[name].budget.monthly_usd) for name in names) else 0


def _document(month: reckon.Estimate, settings: Settings) -> dict[str, Any]:
    budget = settings.budget.monthly_usd
    return {**month.as_record(), "budget_monthly_usd": budget, "within_budget": not month.excess(budget)}


def _table(env: str, month: reckon.Estimate, settings: Settings) -> list[str]:
    if not month.lines:
        return [f"{env} is on a cluster that exists, and its nodes have no prices: nothing to reckon.",
                "Give infra/cluster/Pulumi.*.yaml `priced_as`, `region` and `pools` to have it compared."]  # fmt: skip
    budget = settings.budget.monthly_usd
    lines = [f"{env}: {month.cloud}, {month.region}; prices of {month.date}, list, on demand", ""]
    lines.append(_row("USD a month", "", "least", "expected", "most"))
    lines += [_row(x.name, x.what, _usd(x.low), _usd(x.expected), _usd(x.high)) for x in month.lines]
    lines.append("  " + "─" * (sum(_WIDTHS) + 4))
    totals = (month.monthly_low, month.monthly, month.monthly_high)
    lines += [
        _row("together", "", *map(_usd, totals)),
        _row("budget", _bar(month.monthly, budget), "", _usd(budget), ""),
    ]
    lines += ["", "least: every pool at its minimum; most: every pool at its maximum all month, spot at its dearest."]
    lines.append(f"Not in it: {reckon.LEFT_OUT}.")
    if month.monthly_high > budget >= month.monthly:
        lines.append(
            "The pools' maxima allow more than the budget: the cloud's alert tells, the quotas and maxima stop."
        )
    return [*lines, *filter(None, [month.excess(budget)])]


def _overview(months: dict[str, reckon.Estimate], settings: dict[str, Settings]) -> list[str]:
    lines = [_row("USD a month", "", "expected", "most", "budget")]
    for name, month in months.items():
        budget = settings[name].budget.monthly_usd
        shown = (_usd(month.monthly), _usd(month.monthly_high)) if month.lines else ("–", "–")
        where = f"{month.cloud} {month.region}".strip()
        lines.append(_row(f"{name}, {where}", _bar(month.monthly, budget) if month.lines else "", *shown, _usd(budget)))
    return [*lines, "", "Line by line: seaway cost --env ENV"]


def _row(name: str, what: str, *numbers: str) -> str:
    cells = [
        name.ljust(_WIDTHS[0]),
        what.ljust(_WIDTHS[1]),
        *(n.rjust(w) for n, w in zip(numbers, _WIDTHS[2:], strict=True)),
    ]
    return ("  " + " ".join(cells)).rstrip()


def _usd(amount: float) -> str:
    return f"{amount:,.0f}"


def _bar(part: float, whole: float) -> str:
    """How much of the budget it is; a full bar for all of it and more."""
    full = min(_BAR, round(_BAR * part / whole))
    return f"{'█' * full}{'░' * (_BAR - full)} {part / whole:.0%}"
