"""``seaway demo``: the whole train, then a harmed candidate, then a report."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from seaway.cli import options
from seaway.config import Config
from seaway.processes import die_with_parent

HARM = {"error_rate": 0.03, "latency_ms": 60.0}


def add(verbs: argparse._SubParsersAction) -> None:
    verb = verbs.add_parser(
        "demo",
        parents=[options.common(), options.data()],
        help="the release train from raw data to a promoted canary, and a harmed one rolled back",
    )
    verb.set_defaults(call=demo)


def demo(args: argparse.Namespace) -> int:
    from pipelines.run import run_training
    from serving.release import harmed, run_release

    die_with_parent()
    config = options.config(args)
    started = time.monotonic()
    size = "your data" if args.data else f"scale {config.scale}"
    print(f"Seaway demo: workload {config.workload.name}, {size}, everything below {config.home}\n")

    print("1. The pipeline: data, features, sweep, model, verdict, registry")
    run = run_training(config)

    print("\n2. The candidate meets live traffic")
    request = _request(run)
    good = run_release(config, request, run=run, on_event=_say)

    print(
        f"\n3. A harmed candidate goes the same way ({HARM['error_rate']:.0%} errors, {HARM['latency_ms']:.0f} ms more)"
    )
    bad = run_release(config, harmed(config, request, HARM), run=run, on_event=_say)

    report = _report(config, run, [good, bad])
    _closing(config, report, [good, bad], time.monotonic() - started)
    as_promised = good["verdict"] == "promoted" and bad["verdict"] == "rolled back"
    return 0 if as_promised else 1


def _say(text: str) -> None:
    print(f"  {text}", flush=True)
