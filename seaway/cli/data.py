"""Verbs about data: simulate, features, evaluate."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from seaway.artifacts import atomic_write
from seaway.cli import options
from seaway.config import Config
from seaway.errors import SeawayError


def add(verbs: argparse._SubParsersAction) -> None:
    common, data = options.common(), options.data()
    verb = verbs.add_parser("simulate", parents=[common], help="write the generated data set to a file")
    verb.add_argument("--out", type=Path, required=True, metavar="FILE.parquet")
    verb.add_argument("--scale", help="a name from the workload's scales (default: published)")
    verb.set_defaults(call=simulate)

    verb = verbs.add_parser("features", parents=[common], help="compute the features of a file of events")
    verb.add_argument("--data", required=True, metavar="IN", help="events: Parquet or CSV; a file, folder or glob")
    verb.add_argument("--out", type=Path, required=True, metavar="FILE.parquet")
    verb.set_defaults(call=features)

    verb = verbs.add_parser("evaluate", parents=[common, data], help="run a published evaluation protocol")
    verb.add_argument("--protocol", required=True, help="a name from the workload's protocols")
    verb.add_argument("--json", action="store_true", help="print the result as JSON only")
    verb.set_defaults(call=evaluate)


def simulate(args: argparse.Namespace) -> int:
    from seaway.hooks import resolve

    config = options.config(args)
    source = config.workload.sources[config.workload.source]
    if source.generator is None:
        raise SeawayError(f"workload {config.workload.name!r} has no generator for {config.workload.source!r}")
    started = time.monotonic()
    with atomic_write(args.out) as temporary:
        resolve(source.generator, config.root)(_scale(config), temporary)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB in {time.monotonic() - started:.1f} s")
    return 0


def _scale(config: Config) -> dict:
    try:
        return config.workload.scales[config.scale]
    except KeyError:
        known = ", ".join(config.workload.scales) or "none"
        raise SeawayError(f"workload {config.workload.name!r} has no scale {config.scale!r}; it has: {known}") from None


def _valid_events(config: Config, folder: Path, show) -> Path:
    """Ingest and validate into ``folder``; returns the folder of good rows."""
    from components.ingest.step import ingest
    from components.validate.step import validate

    ingest(config.workload, config.root, config.scale, folder / "raw")
    quarantine = config.home / "quarantine.parquet"  # it must outlive the command, to be looked at
    summary = validate(config.workload, folder / "raw", folder / "valid", quarantine)
    for name, found in summary.items():
        show(f"{name}: {found['rows_good']:,} good rows of {found['rows_in']:,}")
        for reason, rows in found["reasons"].items():
            show(f"  left out: {rows:,} ({reason}); see {quarantine}")
    return folder / "valid"


def features(args: argparse.Namespace) -> int:
    from components.features.step import features as compute
    from seaway.hooks import resolve

    config = options.config(args)
    spec = resolve(config.workload.features, config.root)
    with tempfile.TemporaryDirectory(prefix="seaway-") as name:
        folder = Path(name)
        valid = _valid_events(config, folder, print)
        started = time.monotonic()
        compute(config.workload, spec, valid, folder / "features")
        seconds = time.monotonic() - started
        with atomic_write(args.out) as temporary:
            shutil.copyfile(folder / "features" / "features.parquet", temporary)
    print(f"{args.out}: {len(spec.names)} features in {seconds:.1f} s")
    return 0


def evaluate(args: argparse.Namespace) -> int:
    from seaway.hooks import resolve

    config = options.config(args)
    protocols = config.workload.protocols
    if args.protocol not in protocols:
        known = ", ".join(protocols) or "none"
        raise SeawayError(f"workload {config.workload.name!r} has no protocol {args.protocol!r}; it has: {known}")
    hook = protocols[args.protocol]
    progress = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731
    with tempfile.TemporaryDirectory(prefix="seaway-") as name:
        valid = _valid_events(config, Path(name), progress)
        result = resolve(hook, config.root)(valid / f"{config.workload.source}.parquet", progress=progress)
    if args.json:
        print(json.dumps(result, indent=2))
    else:
        print(resolve(f"{hook.partition(':')[0]}:render", config.root)(result))
    return 0
