"""``promote``: move a release bundle from one environment to the next."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seaway.errors import SeawayError

if TYPE_CHECKING:
    from seaway.config import Config
    from serving.promotion.move import Prepared

_ABOUT = (
    "Takes what was promoted in one environment, by its evidence, and releases the very same bundle in the next: "
    "nothing is trained, compiled or built again. It is refused, with all reasons at once, when the target lacks "
    "what the bundle needs. There it is a canary like any other, and has to prove itself on the target's traffic."
)


def add(verbs: argparse._SubParsersAction) -> None:
    verb = verbs.add_parser(
        "promote", help="move a promoted release to another environment", description=_ABOUT,
        epilog="Exit codes: 0 promoted there, 1 its evidence said no, or --dry-run found something, 2 refused.",
    )  # fmt: skip
    verb.add_argument("--from", dest="source", required=True, metavar="ENV", help="environment that promoted it")
    verb.add_argument("--to", dest="target", required=True, metavar="ENV", help="environment that is to get it")
    verb.add_argument("--version", default="", help="of the model, in the source's registry (default: its champion)")
    verb.add_argument("--dry-run", action="store_true", help="look and check only; nothing is written")
    verb.add_argument("--yes", action="store_true", help="do not ask")
    verb.add_argument("--json", action="store_true", help="with --dry-run: one JSON document instead of words")
    group = verb.add_argument_group("configuration")
    group.add_argument("--workload", type=Path, metavar="FILE", help="the workload's file (default: the demo's)")
    for name, whose in (("set", "both environments"), ("set-from", "the source"), ("set-to", "the target")):
        group.add_argument(
            f"--{name}", action="append", default=[], metavar="KEY=VALUE", help=f"override a key of {whose}"
        )
    verb.set_defaults(call=promote)


def promote(args: argparse.Namespace) -> int:
    from serving.caught_up import catch_up
    from serving.platform_info import with_infrastructure
    from serving.promotion.move import carry_out, prepare
    from serving.rollout.state import PROMOTED, PROVISIONAL

    if args.json and not args.dry_run:
        raise SeawayError("--json is given without --dry-run: add --dry-run to look only, or leave --json out")
    source = _config(args, args.source, args.set_from)
    target = _config(args, args.target, args.set_to)
    for config in (source, target):
        if not args.dry_run:
            catch_up(config)
        elif text := _behind(config):
            print(json.dumps({"from": source.env, "to": target.env, "behind": text}, indent=2) if args.json else text)
            return 1
    ready = prepare(source, target, version=args.version)
    if args.dry_run:
        print(json.dumps(_document(ready), indent=2) if args.json else _said(ready))
        return 1 if ready.lacking else 0
    print(_said(ready))
    if ready.lacking:
        raise SeawayError(f"{target.env} cannot take it yet: see above")
    if not args.yes:
        _ask(f"Release it in {target.env}, as a canary there? [y/N] ")
    events = lambda text: print(f"  {text}", flush=True)  # noqa: E731
    ready = replace(ready, target=with_infrastructure(target, on_event=events))
    record = carry_out(ready, on_event=events)
    print(f"version {record['candidate']['version']} of {target.env} {record['verdict']}: {record['reason']}")
    return 0 if record["verdict"] in (PROMOTED, PROVISIONAL) else 1


def _config(args: argparse.Namespace, env: str, own: list[str]) -> Config:
    from seaway.cli import options

    return options.config(argparse.Namespace(env=env, workload=args.workload, home=None, set=[*args.set, *own]))


def _behind(config: Config) -> str:
    """Why a look at the registry as it is would show another champion than a promotion moves or meets, or ""."""
    from serving.caught_up import behind
    from serving.rollout.state import PROMOTED

    try:
        verdict = behind(config)
    except SeawayError as error:  # what the target lacks is told all the same
        print(f"whether the registry of {config.env} is behind cannot be seen: {error}", file=sys.stderr)
        return ""
    if verdict is None or verdict.phase != PROMOTED:
        return ""
    return (
        f"{config.env}'s registry is behind: version {verdict.version} was promoted meanwhile; "
        "without --dry-run it follows first, and you are asked before anything moves"
    )


def _ask(question: str) -> None:
    if not sys.stdin.isatty():
        raise SeawayError("nobody is there to be asked: give --yes to go on, or --dry-run to look")
    if input(question).strip().lower() not in ("y", "yes"):
        raise SeawayError("not promoted")


def _document(ready: Prepared) -> dict[str, Any]:
    return {
        "from": ready.source.env,
        "to": ready.target.env,
        "bundle": ready.bundle.digest,
        "record": ready.bundle.record,
        "champion": ready.champion.as_record() if ready.champion else None,
        "lacking": ready.lacking,
        "there": ready.there,
    }


def _said(ready: Prepared) -> str:
    record, target = ready.bundle.record, ready.target.env
    model, platform = record["model"], record["infrastructure"]
    on = platform["stack"] + (f", update {platform['update']}" if platform["update"] else "")
    rows = [
        ("release bundle", ready.bundle.digest),
        ("model", f"{record['workload']} version {ready.version.version} of {ready.source.env}, {model['digest']}"),
        ("pipeline", record["pipeline"] or "not kept"),
        *((f"image {name}", image) for name, image in record["images"].items()),
        ("features", record["features"]),
        ("configuration", record["config"]),
        ("code", model["lineage"].get("git_revision") or "unknown"),
        ("run", model["lineage"].get("run") or "unknown"),
        ("trained on", on),
    ]
    lines = [f"  {name:<16}{value}" for name, value in rows]
    if ready.there:
        lines.append(f"It is the champion of {target} already.")
    elif ready.champion:
        lines.append(f"In {target} it is compared with version {ready.champion.version}, the champion there.")
    else:
        lines.append(f"{target} has no champion: it becomes the first, without a comparison.")
    if ready.lacking:
        lines += [f"{target} lacks:", *(f"  - {text}" for text in ready.lacking)]
    else:
        lines.append(f"{target} has all that it needs.")
    return "\n".join(lines)
