"""The verb of batch scoring."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import nullcontext, redirect_stdout
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from seaway.cli import agree, options
from seaway.errors import SeawayError
from seaway.processes import die_with_parent


def add(verbs: argparse._SubParsersAction) -> None:
    verb = verbs.add_parser(
        "score",
        parents=[options.common()],
        help="score rows with the champion, a partition at a time; what is done already is not done again",
    )
    what = verb.add_argument_group("rows")
    what.add_argument(
        "--data", dest="table", metavar="PATH",
        help="rows with the version's features: a Parquet file, a folder of them, or a URI of object storage "
        "(default: the features of the workload's own events, computed by the pipeline's steps)",
    )  # fmt: skip
    what.add_argument("--scale", help="size of the generated data, a name from the workload's scales")
    what.add_argument("--from", dest="start", metavar="DAY", help="the first day, such as 2018-04-01 (UTC)")
    what.add_argument("--to", dest="last", metavar="DAY", help="the last day")
    verb.add_argument("--out", metavar="PATH", help="folder or URI for the scores (default: scores in home or storage)")
    verb.add_argument("--version", metavar="N", help="a registered version (default: the champion)")
    verb.add_argument(
        "--explain", nargs="?", const="decided", choices=("decided", "all"),
        help="reasons beside the scores: of the rows that are decided on (default), or of all, which takes long",
    )  # fmt: skip
    verb.add_argument("--log", action="store_true", help="write predictions as JSON lines too, as servers log them")
    verb.add_argument("--json", action="store_true", help="print the summary as JSON at the end")
    verb.add_argument("--compile", type=Path, metavar="FILE", help="write the pipeline as KFP IR YAML, score nothing")
    agree.add(verb)
    verb.set_defaults(call=score)


def score(args: argparse.Namespace) -> int:
    config = _configured(args)
    if args.compile:
        from pipelines.batch_score import cluster_scoring
        from pipelines.compile import compile_pipeline

        print(compile_pipeline(config, args.compile, cluster_scoring(config)))
        return 0
    die_with_parent()
    summary = _of_table(config, args.table) if args.table else _of_events(config, args)
    if args.json:
        print(json.dumps(summary, indent=2))
        return 0
    print(
        f"version {summary['version']}: {summary['rows']:,} rows in {summary['partitions']} partitions, "
        f"{summary['decided']:,} decided on; {summary['scored']} partitions scored now, {summary['unchanged']} were "
        f"done, {summary['seconds']:.1f} s; {summary['out']}"
    )
    if summary["unscored_rows"]:
        print(f"{summary['unscored_rows']:,} rows have no score: a feature of theirs is no finite number")
    return 0


def _configured(args: argparse.Namespace) -> options.Config:
    last = None
    if args.last:
        try:
            last = (date.fromisoformat(args.last) + timedelta(days=1)).isoformat()
        except ValueError:
            raise SeawayError(f"--to {args.last!r} is no day: write it as 2018-04-01") from None
    given = {"version": args.version, "out": args.out, "start": args.start, "end": last, "explain": args.explain}
    given["log"] = args.log
    return options.config(args, scoring={name: value for name, value in given.items() if value})


def _of_table(config: options.Config, table: str) -> dict[str, Any]:
    """Rows that have their features already, scored from this process."""
    from components.score.model import load
    from components.score.places import Place
    from components.score.step import destination, score_table

    model = load(config, config.scoring.version)
    return score_table(config, model, Place.of(config, table), destination(config))


def _of_events(config: options.Config, args: argparse.Namespace) -> dict[str, Any]:
    """The events of the workload's source, by the pipeline, once its cost is agreed to."""
    from pipelines.batch_score import run_scoring, scoring_pipeline
    from pipelines.progress import Terminal

    with redirect_stdout(sys.stderr) if args.json else nullcontext():
        more = agree.agree(config, args.yes, pipeline=scoring_pipeline(config.pipeline))
    record = run_scoring(config, on_event=Terminal(sys.stderr), more=more)
    return next(step["summary"] for step in record["steps"] if step["name"] == "score")
