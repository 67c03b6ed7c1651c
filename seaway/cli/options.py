"""Options that several verbs share, and how they become a Config."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from seaway.config import Config, load


def common() -> argparse.ArgumentParser:
    """A parent parser with the options of every verb that needs the configuration."""
    parent = argparse.ArgumentParser(add_help=False)
    group = parent.add_argument_group("configuration")
    group.add_argument("--env", default="local", help="environment: a file of config/ (default: local)")
    group.add_argument("--workload", type=Path, metavar="FILE", help="the workload's file (default: the demo's)")
    group.add_argument("--home", type=Path, metavar="DIR", help="where runs and state are kept (default: .seaway)")
    return parent


def data() -> argparse.ArgumentParser:
    """A parent parser with the options that choose the data."""
    parent = argparse.ArgumentParser(add_help=False)
    group = parent.add_argument_group("data")
    group.add_argument("--data", metavar="PATH", help="your own events: Parquet or CSV; a file, folder or glob")
    group.add_argument("--scale", help="size of the generated data, a name from the workload's scales")
    return parent


def config(args: argparse.Namespace, **more: Any) -> Config:
    """The configuration that the options ask for; raises SeawayError for a bad one."""
    overrides: dict[str, Any] = dict(more)
    if args.home:
        overrides["home"] = str(args.home.resolve())
    if getattr(args, "scale", None):
        overrides["scale"] = args.scale
    loaded = load(args.env, workload=args.workload, overrides=overrides)
    if getattr(args, "data", None):
        path = str(Path(args.data).expanduser().absolute())
        source = {"sources": {loaded.workload.source: {"path": path}}}
        loaded = load(args.env, workload=args.workload, overrides={**overrides, "workload": source})
    return loaded
