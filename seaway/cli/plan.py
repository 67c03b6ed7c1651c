"""``seaway plan``: what a sweep will take and cost by scheduler, simulated from the trials of a finished one."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seaway.cli import options
from seaway.errors import SeawayError

if TYPE_CHECKING:
    from seaway.config import Config, StepResources

SCHEDULERS = ("none", "asha", "bohb", "pbt")
SPOT_HOURS = 12.0
_ABOUT = (
    "Simulates sweeps from the learning curves of a finished one: trials, places, nodes that start, are taken away and "
    "come back. What a real sweep asks decides here too. Nothing is run and no cloud is asked (docs/planning.md)."
)


def add(verbs: argparse._SubParsersAction) -> None:
    verb = verbs.add_parser(
        "plan", parents=[options.common()], help="what a sweep will take and cost, by scheduler", description=_ABOUT
    )
    verb.add_argument("--trials", type=int, metavar="N", help="trials of the sweep (default: the workload's)")
    at_once = verb.add_mutually_exclusive_group()
    at_once.add_argument("--gpus", type=int, metavar="N", help="GPUs, each for one trial unless a trial takes less")
    at_once.add_argument(
        "--slots", type=int, metavar="N", help="trials at a time (default: as the configuration has it)"
    )
    verb.add_argument("--per-node", type=int, metavar="N", help="trials at a time on one node (default: what fits)")
    verb.add_argument(
        "--spot", type=float, nargs="?", const=SPOT_HOURS, metavar="HOURS",
        help=f"nodes may be taken away, each after so many hours on average (default: {SPOT_HOURS:g}), at spot prices",
    )  # fmt: skip
    verb.add_argument(
        "--start", type=float, metavar="SECONDS", help="until a node takes trials (default: 180; here: 0)"
    )
    verb.add_argument("--speed", type=float, default=1.0, metavar="X", help="an epoch is so much faster than measured")
    verb.add_argument("--schedulers", nargs="+", choices=SCHEDULERS, default=SCHEDULERS, metavar="NAME",
                      help=f"of {', '.join(SCHEDULERS)} (default: all)")  # fmt: skip
    verb.add_argument(
        "--from", dest="source", type=Path, metavar="FILE", help="trials.parquet (default: newest of home)"
    )
    verb.add_argument("--seeds", type=int, default=20, metavar="N", help="simulated sweeps each (default: 20)")
    verb.add_argument("--out", type=Path, metavar="FILE", help="write a page with charts, such as plan.html")
    verb.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    verb.set_defaults(call=plan)


def plan(args: argparse.Namespace) -> int:
    from components.tune.plan_page import lines, page

    found = _planned(args)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(page(found))
    print(json.dumps(found, indent=2) if args.json else "\n".join(lines(found)))
    if args.out and not args.json:
        print(f"\nWith charts: {args.out}")
    return 0


def _planned(args: argparse.Namespace) -> dict[str, Any]:
    from components.ray.needs import cores, slots_here
    from components.tune.budget import rates_of
    from components.tune.plan_curves import read
    from components.tune.planning import planned

    for name in ("trials", "gpus", "slots", "per_node", "seeds"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise SeawayError(f"--{name.replace('_', '-')} {value}: give a number of 1 or more")
    for name in ("spot", "speed"):
        value = getattr(args, name)
        if value is not None and value <= 0:
            raise SeawayError(f"--{name} {value:g}: give a number above 0")
    more: dict[str, Any] = {"workload": {"sweep": {"trials": args.trials}}} if args.trials else {}
    if args.spot:
        more["budget"] = {"spot": True}
    config = options.config(args, **more)
    sweep = config.workload.sweep
    source = args.source or _newest(config.home)
    curves = read(source, sweep.metric, sweep.max_epochs, sweep.patience, cores(sweep.resources.cpu), sweep.space)
    fleet, node, head = _fleet(args, config)
    fleet = replace(fleet, process=curves.process)
    if fleet.once == HERE_ONCE:
        fleet = replace(fleet, once=_around(source, curves, slots_here(config)))
    if args.gpus and not sweep.resources.gpu:
        sweep = sweep.model_copy(update={"resources": sweep.resources.model_copy(update={"gpu": 1})})
    return {
        "from": str(source),
        **planned(
            sweep, curves, fleet, args.schedulers, rates=rates_of(config.budget), node=node, head=head,
            seeds=args.seeds, seed=sweep.seed,
        ),
    }  # fmt: skip


def _newest(home: Path) -> Path:
    tables = [*home.glob("cache/tune/*/outputs/out/trials.parquet"), *home.glob("runs/*/tune/out/trials.parquet")]
    if not tables:
        raise SeawayError(f"no finished sweep below {home}: run `seaway tune` first, or give --from trials.parquet")
    return max(tables, key=lambda file: file.stat().st_mtime)


def _around(source: Path, curves: Any, slots: int) -> float:
    """Seconds around the trials of a sweep here: those of the measured one, where a run has kept them."""
    manifest = source.parent.parent.parent / "manifest.json"
    summary = json.loads(manifest.read_text()).get("summary", {}) if manifest.exists() else {}
    if summary.get("epochs_kept") != 0 or "seconds" not in summary:  # unknown, or of a sweep that went on
        return HERE_ONCE
    return curves.around(float(summary["seconds"]), min(slots, len(curves.measured)), HERE_BEGIN)


def _fleet(args: argparse.Namespace, config: Config) -> tuple[Any, StepResources, StepResources | None]:
    """Where the sweep is to run, the resources of one node, and those of a head beside them."""
    from components.ray.needs import Needs, slots_here
    from components.tune.plan_fleet import Fleet

    trial, ray = config.workload.sweep.resources, config.ray
    away = args.gpus or args.slots or ray.substrate == "kuberay"
    if not away:
        slots = min(slots_here(config), config.workload.sweep.trials)
        return Fleet(slots, slots, args.start or 0.0, HERE_BEGIN, HERE_BEGIN, HERE_ONCE, speed=args.speed), trial, None
    if args.gpus:
        trial = trial if trial.gpu else trial.model_copy(update={"gpu": 1})
    needs, worker = Needs.of(trial), Needs.of(ray.worker)
    fits = needs.fits(worker.cpu, worker.memory, worker.gpu) if ray.substrate == "kuberay" else 0
    slots = int(args.gpus / trial.gpu) if args.gpus else args.slots or max(1, fits) * (ray.max_workers or ray.workers)
    per_node = min(args.per_node or max(1, fits), slots)
    node = ray.worker if fits == per_node else _times(trial, per_node)
    start = 180.0 if args.start is None else args.start
    loss = args.spot * 3600 if args.spot else None
    fleet = Fleet(slots, per_node, start, AWAY_BEGIN, AWAY_AGAIN, AWAY_ONCE, loss, args.speed)
    return fleet, node, ray.head if ray.substrate == "kuberay" else None


def _times(trial: StepResources, number: int) -> StepResources:
    """A node that holds just so many trials."""
    from components.ray.needs import cores

    return trial.model_copy(update={"cpu": f"{cores(trial.cpu) * number:g}", "gpu": trial.gpu * number})


# seconds of beginning a trial, of bringing one back on another node, and of the sweep around its trials
HERE_BEGIN, HERE_ONCE = 0.02, 13.0
AWAY_BEGIN, AWAY_AGAIN, AWAY_ONCE = 1.0, 15.0, 60.0
