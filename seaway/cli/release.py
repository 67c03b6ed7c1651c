"""Verbs of releases: ``release start`` and what a person does beside it, ``controller``."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from seaway.cli import options
from seaway.processes import die_with_parent

ABOUT = (
    "A candidate gets a growing share of the traffic beside the stable version. It is promoted when every guardrail's "
    "E promote reaches its threshold and rolled back when any E roll back does; see docs/promotion.md. The released "
    "object keeps all state, so these actions work while a release runs here, under a controller or on a cluster."
)


def add(verbs: argparse._SubParsersAction) -> None:
    verb = verbs.add_parser(
        "release", help="release a candidate as a canary, and look after releases", description=ABOUT
    )
    actions = verb.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, call: Callable, text: str, more: str = "", json: bool = False) -> argparse.ArgumentParser:
        added = actions.add_parser(name, parents=[options.common()], help=text, description=f"{_sentence(text)} {more}")
        if json:
            added.add_argument("--json", action="store_true", help="one JSON document instead of words")
        added.set_defaults(call=call)
        return added

    action(
        "start", start, "release the newest run's candidate, to the verdict",
        "Killed or stopped, the same command goes on from there. Exit code 0: promoted, also provisionally; 1: not.",
    )  # fmt: skip
    action(
        "status", status, "phase, weights and evidence of the release, now or last",
        "Bars show E on a log scale from 0.01 to 1,000, with 1 (no evidence) and the threshold marked.", json=True,
    )  # fmt: skip
    action(
        "watch", watch, "the same, live, until the verdict",
        "Only looks: Ctrl-C leaves the release alone. Without a terminal it prints a line for each change. "
        "Exit code 0: promoted, 1: not.",
    )  # fmt: skip
    action(
        "promote", promote, "skip the rest of the ramp once the proof is there",
        "Nobody promotes without proof: this only saves the ramp steps, and says what each guardrail still lacks.",
    )  # fmt: skip
    added = action(
        "abort", abort, "roll back the release under way", "Wins over any evidence, also while the release is frozen.",
    )  # fmt: skip
    added.add_argument("reason", metavar="REASON", help="why; kept in the ledger with your name")
    added = action(
        "freeze", freeze, "hold the weights as they are; --off lets go",
        "Evidence goes on, and nothing is done about it until --off or an abort. The time cap goes on too.",
    )  # fmt: skip
    added.add_argument("--off", action="store_true", help="let the release go on")
    action(
        "history", history, "the ledger: every verdict with its evidence",
        "The ledger's hashes are checked first; `verify` also decides everything again.", json=True,
    )  # fmt: skip
    added = action(
        "explain", explain, "what was decided when and why, from the decision log decided anew",
        "Says what each guardrail lacked in the end, and whether the replay agrees with the log.",
    )  # fmt: skip
    added.add_argument("release", nargs="?", metavar="RELEASE", help="its name (default: the one in the object)")
    action(
        "verify", verify, "check the ledger's chain and decide every decision again",
        "Names the first entry that was changed, is missing or comes out differently. Exit code 0: all holds, 1: not.",
        json=True,
    )  # fmt: skip
    added = action(
        "label", label, "sign labels and append them to the feed that confirms releases",
        "FILE.csv has a line `id,label` or `id,label,time` and one line a label that is known: the request's id, 0 "
        "or 1, and when it became known (default: now). What is not known is left out; it never counts as 0.",
    )  # fmt: skip
    added.add_argument("file", metavar="FILE.csv")

    verb = verbs.add_parser(
        "controller",
        parents=[options.common()],
        help="go on with every release of the substrate, until stopped",
        description="Observes, decides and acts on every object with a release, here or on the cluster that "
        "serving.substrate names. Any number may run at once; one that is killed loses nothing. Ctrl-C ends it.",
    )
    verb.add_argument("--once", action="store_true", help="one look at every release, then end")
    verb.add_argument("--namespace", help="of the released objects (default: serving.namespace)")
    verb.set_defaults(call=controller)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def start(args: argparse.Namespace) -> int:
    from pipelines.run import newest_run
    from seaway.artifacts import read_json
    from serving.caught_up import catch_up
    from serving.platform_info import with_infrastructure
    from serving.release import run_release
    from serving.rollout.state import PROMOTED, PROVISIONAL

    die_with_parent()
    config = with_infrastructure(options.config(args))
    catch_up(config)
    run = newest_run(config, lambda text: print(text, file=sys.stderr))
    request = read_json(Path(run["outputs"]["release"]) / "release.json")
    record = run_release(config, request, run=run, on_event=lambda text: print(f"  {text}", flush=True))
    for line in of_traffic(record):
        print(f"  {line}")
    print(f"version {record['candidate']['version']} {record['verdict']}: {record['reason']}")
    if record["verdict"] == PROVISIONAL:
        print("its labels decide: this command, run again, goes on with it, as does `seaway controller` on a cluster")
    return 0 if record["verdict"] in (PROMOTED, PROVISIONAL) else 1


def of_traffic(record: Mapping[str, Any]) -> list[str]:
    """What a release's record says of the requests, by version where some failed, and of parity."""
    traffic, parity = record.get("traffic") or {}, record.get("parity")
    lines = []
    if "sent" in traffic:
        failed = f"{traffic['failed']:,} of them failed"
        if traffic["failed"]:
            parts = [f"{n} {p['failed']:,} of {p['sent']:,}" for n, p in sorted(traffic["by_predictor"].items())]
            failed += f" ({', '.join(parts)})"
        lines.append(f"{traffic['sent']:,} requests, {failed}")
    if parity:
        lines.append(
            f"parity: {parity['checked']:,} answers against the offline table: {parity['feature_differences']} "
            f"features differ, largest score difference {parity['max_score_difference']:.1e}"
        )
    return lines


def status(args: argparse.Namespace) -> int:
    from serving.rollout import commands

    found = commands.status(options.config(args))
    if args.json:
        print(json.dumps(found, indent=2))
        return 0
    from rich.console import Console

    from serving.rollout.view import board

    console = Console(highlight=False, width=None if sys.stdout.isatty() else max(100, _columns()))
    console.print(board(found, console.width))
    return 0


def _columns() -> int:
    return shutil.get_terminal_size((100, 24)).columns


def watch(args: argparse.Namespace) -> int:
    from serving.rollout import commands
    from serving.rollout.state import PROMOTED
    from serving.rollout.watch import watch as watched
    from serving.substrate.choose import substrate_of

    config = options.config(args)
    place = substrate_of(config)
    try:
        phase = watched(lambda: commands.status(config, place))
    except KeyboardInterrupt:
        print("Stopped looking; the release goes on.", file=sys.stderr)
        return 130
    return 0 if phase == PROMOTED else 1


def promote(args: argparse.Namespace) -> int:
    from serving.rollout import commands

    print(commands.promote(options.config(args)))
    return 0


def abort(args: argparse.Namespace) -> int:
    from serving.rollout import commands

    print(commands.abort(options.config(args), args.reason))
    return 0


def freeze(args: argparse.Namespace) -> int:
    from serving.rollout import commands

    print(commands.freeze(options.config(args), not args.off))
    return 0


def history(args: argparse.Namespace) -> int:
    from serving.rollout import commands
    from serving.rollout.explain import ledger_line

    lines = commands.history(options.config(args))
    if args.json:
        print(json.dumps(lines, indent=2))
        return 0
    for line in lines:
        print(ledger_line(line))
    if not lines:
        print("the ledger is empty: no release was decided yet")
    return 0


def explain(args: argparse.Namespace) -> int:
    from serving.rollout import commands

    print("\n".join(commands.explain(options.config(args), args.release)))
    return 0


def verify(args: argparse.Namespace) -> int:
    from serving.rollout.verify import said
    from serving.rollout.verify import verify as verified

    found = verified(options.config(args))
    print(json.dumps(found.record(), indent=2) if args.json else said(found))
    return 1 if found.problem else 0


def label(args: argparse.Namespace) -> int:
    from serving.rollout import commands

    print(commands.label(options.config(args), args.file))
    return 0


def controller(args: argparse.Namespace) -> int:
    from serving.rollout.controller import run_controller

    if args.namespace:
        args.set.append(f"serving.namespace={args.namespace}")
    return run_controller(options.config(args), once=args.once)
