"""Verbs of training: run, tune, compile."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from seaway.cli import agree, options
from seaway.errors import SeawayError
from seaway.processes import die_with_parent
from seaway.spend import worth


def add(verbs: argparse._SubParsersAction) -> None:
    common, data = options.common(), options.data()
    verb = verbs.add_parser(
        "run", parents=[common, data], help="run the training pipeline; unchanged steps are skipped"
    )
    verb.add_argument("--explain", action="store_true", help="say of each step why it ran or was skipped")
    verb.add_argument("--trials", type=int, metavar="N", help="trials of the sweep (default: the workload's)")
    verb.add_argument("--json", action="store_true", help="print the run's record as JSON at the end")
    agree.add(verb)
    on = verb.add_argument_group("runs on a cluster (pipeline.host)").add_mutually_exclusive_group()
    on.add_argument("--follow", metavar="RUN", help="follow a run that is there: its name, or Kubeflow's id of it")
    on.add_argument(
        "--resume", nargs="?", const="", metavar="RUN",
        help="let a failed run go on from its failed step, as it was handed in (default: the newest here)",
    )  # fmt: skip
    verb.set_defaults(call=run)

    verb = verbs.add_parser("tune", parents=[common, data], help="run the pipeline up to the sweep, and the sweep")
    verb.add_argument("--trials", type=int, metavar="N", help="trials of the sweep (default: the workload's)")
    verb.add_argument(
        "--resume", action=argparse.BooleanOptionalAction, default=True,
        help="go on with a sweep that was stopped or killed (default); --no-resume starts it afresh",
    )  # fmt: skip
    agree.add(verb)
    verb.set_defaults(call=tune)

    verb = verbs.add_parser("compile", parents=[common, data], help="write the pipeline as KFP IR YAML")
    verb.add_argument("--out", type=Path, default=Path("training.yaml"), metavar="FILE")
    verb.set_defaults(call=compile_)


def _with_trials(args: argparse.Namespace) -> options.Config:
    more = {"workload": {"sweep": {"trials": args.trials}}} if args.trials else {}
    return options.config(args, **more)


def run(args: argparse.Namespace) -> int:
    from pipelines.run import run_training

    die_with_parent()
    config = _with_trials(args)
    if config.pipeline.host or args.follow or args.resume is not None:
        record = _on_cluster(config, args)
        if record is None:
            return 130
    else:
        record = run_training(config, explain=args.explain, more=agree.agree(config, args.yes))
    cost = f" and cost {worth(record['usd'])}" if record.get("usd") else ""
    folder = config.home / "runs" / record["run"]
    print(f"run {record['run']} passed in {record['seconds']:.1f} s{cost}; its files: {folder}")
    if args.json:
        print(json.dumps(record, indent=2))
    return 0


def _on_cluster(config: options.Config, args: argparse.Namespace) -> dict[str, Any] | None:
    """The record of a run on the cluster; None when the person stops following it."""
    from pipelines.cluster import Left, go_on, submit
    from pipelines.progress import shown
    from serving.caught_up import catch_up
    from serving.platform_info import with_infrastructure

    known = args.follow is not None or args.resume is not None
    try:
        if not known:
            try:
                catch_up(config)
            except SeawayError as error:  # the pipeline's last step does it too
                print(f"whether a release was decided meanwhile cannot be seen from here: {error}")
            more = agree.agree(config, args.yes)
            config = with_infrastructure(config)
        with shown(explain=args.explain) as on_event:
            if known:
                return go_on(config, args.follow or args.resume or "", resume=args.follow is None, on_event=on_event)
            return submit(config, on_event=on_event, more=more)
    except Left as left:
        print(f"\n{left}", file=sys.stderr)
        return None


def tune(args: argparse.Namespace) -> int:
    from pipelines.progress import shown
    from pipelines.sweep import run_sweep

    die_with_parent()
    config = _with_trials(args)
    more = agree.agree(config, args.yes, until="tune", fresh=not args.resume)
    with shown() as on_event:
        best = run_sweep(config, resume=args.resume, on_event=on_event, more=more)
    parameters = ", ".join(f"{name} {value}" for name, value in best["params"].items())
    print(
        f"best: trial {best['trial']} with {best['metric']} {best['value']:.4f} "
        f"after {best['epochs']} epochs; {parameters}"
    )
    if best.get("ended"):
        print(f"the sweep ended before its last trial: {best['ended']}")
    if best["usd"]:
        print(f"cost: {worth(best['usd'])}")
    return 0


def compile_(args: argparse.Namespace) -> int:
    from pipelines.compile import compile_pipeline

    print(compile_pipeline(options.config(args), args.out))
    return 0
