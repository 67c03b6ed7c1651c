"""``seaway demo``: the whole train, then a harmed candidate, then a report."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from seaway.cli import agree, options
from seaway.cli.release import of_traffic
from seaway.cli.serving import write_report
from seaway.config import Config, project_root
from seaway.processes import die_with_parent

HARM = {"error_rate": 0.03, "latency_ms": 150.0}


def add(verbs: argparse._SubParsersAction) -> None:
    verb = verbs.add_parser(
        "demo",
        parents=[options.common(), options.data()],
        help="the release train, from raw data to a promoted canary; then a harmed one, rolled back",
    )
    verb.add_argument("--explain", action="store_true", help="say of each step why it ran or was skipped")
    agree.add(verb)
    verb.set_defaults(call=demo)


def demo(args: argparse.Namespace) -> int:
    from pipelines.run import run_training
    from seaway.artifacts import read_json
    from serving.release import harmed, run_release

    die_with_parent()
    config = options.config(args)
    started = time.monotonic()
    size = args.data or f"scale {config.scale}"
    print(f"Seaway demo: {config.workload.name}, {size}, everything kept below {_short(config.home)}\n", flush=True)

    print("1. The pipeline: data, features, sweep, model, verdict, registry", flush=True)
    run = run_training(config, explain=args.explain, more=agree.agree(config, args.yes))

    request = read_json(Path(run["outputs"]["release"]) / "release.json")
    print(f"\n2. Version {request['version']} meets live traffic as a canary", flush=True)
    good = run_release(config, request, run=run, on_event=_say)
    _verdict(good)

    harm = f"{HARM['error_rate']:.0%} errors and {HARM['latency_ms']:.0f} ms more"
    print(f"\n3. A harmed candidate goes the same way: the same model, served with {harm}", flush=True)
    bad = run_release(config, harmed(config, request, HARM), run=run, on_event=_say)
    _verdict(bad)

    page = write_report(config, run)
    _closing(args, config, page, time.monotonic() - started)
    return 0 if (good["verdict"], bad["verdict"]) == ("promoted", "rolled back") else 1


def _say(text: str) -> None:
    print(f"  {text}", flush=True)


def _verdict(record: dict[str, Any]) -> None:
    served = of_traffic(record)
    after = f" after {served[0]}" if served else ""
    _say(f"=> version {record['candidate']['version']} {record['verdict']}{after}")
    for line in served[1:]:
        _say(f"=> {line}")


def _closing(args: argparse.Namespace, config: Config, page: Path, seconds: float) -> None:
    seaway = _short(Path(sys.argv[0]).absolute())
    mlflow = _short(Path(sys.executable).parent / "mlflow")
    given = (("--env", args.env if args.env != "local" else None), ("--workload", args.workload), ("--home", args.home))
    tail = "".join(f" {name} {shlex.quote(str(value))}" for name, value in given if value)
    print(
        f"\nDone in {seconds:.0f} s.\n"
        f"  report     {page.resolve().as_uri()}\n"
        f"  MLflow     {mlflow} ui --backend-store-uri sqlite:///{config.home}/mlflow.db\n"
        f"  serve it   {seaway} serve{tail}\n"
        f"  your data  make demo DATA=your.parquet      (docs/your-model.md: your own features and model)"
    )


def _short(path: Path) -> str:
    """Relative to the project where it lies within."""
    return str(path.relative_to(project_root())) if path.is_relative_to(project_root()) else str(path)
