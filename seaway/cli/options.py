"""Options that several verbs share, and how they become a Config."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from seaway.config import Config, load
from seaway.errors import SeawayError
from seaway.storage import is_uri


def common() -> argparse.ArgumentParser:
    """A parent parser with the options of every verb that needs the configuration."""
    parent = argparse.ArgumentParser(add_help=False)
    group = parent.add_argument_group("configuration")
    group.add_argument("--env", default="local", help="environment: a file of config/ (default: local)")
    group.add_argument("--workload", type=Path, metavar="FILE", help="the workload's file (default: the demo's)")
    group.add_argument("--home", type=Path, metavar="DIR", help="where runs and state are kept (default: .seaway)")
    group.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="override one key of the configuration, such as release.rate=30; may be repeated",
    )  # fmt: skip
    return parent


def data() -> argparse.ArgumentParser:
    """A parent parser with the options that choose the data."""
    parent = argparse.ArgumentParser(add_help=False)
    group = parent.add_argument_group("data")
    group.add_argument(
        "--data", metavar="PATH", help="your own events: Parquet or CSV; a file, folder, glob or URI of object storage"
    )
    group.add_argument("--scale", help="size of the generated data, a name from the workload's scales")
    return parent


def config(args: argparse.Namespace, **more: Any) -> Config:
    """The configuration that the options ask for; raises SeawayError for a bad one."""
    overrides: dict[str, Any] = dict(more)
    for text in args.set:
        _put(overrides, text)
    if args.home:
        overrides["home"] = str(args.home.resolve())
    if getattr(args, "scale", None):
        overrides["scale"] = args.scale
    loaded = load(args.env, workload=args.workload, overrides=overrides)
    if getattr(args, "data", None):
        path = args.data if is_uri(args.data) else str(Path(args.data).expanduser().absolute())
        _put(overrides, f"workload.sources.{loaded.workload.source}.path={path}")
        loaded = load(args.env, workload=args.workload, overrides=overrides)
    return loaded


def _put(overrides: dict[str, Any], text: str) -> None:
    """Take ``a.b.c=value`` (value: YAML) into a nested dict."""
    key, sign, value = text.partition("=")
    if not sign:
        raise SeawayError(f"--set {text!r} is not KEY=VALUE, such as release.rate=30")
    *parents, last = key.split(".")
    for parent in parents:
        overrides = overrides.setdefault(parent, {})
    overrides[last] = yaml.safe_load(value)
