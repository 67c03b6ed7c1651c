"""Verbs of serving: serve, predict, release ..., report."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from seaway.cli import options
from seaway.config import Config
from seaway.errors import SeawayError
from seaway.processes import die_with_parent


def add(verbs: argparse._SubParsersAction) -> None:
    common = options.common()
    verb = verbs.add_parser("serve", parents=[common], help="serve the champion behind Envoy until Ctrl-C")
    verb.add_argument("--port", type=int, default=0, help="the proxy's port (default: any free one)")
    verb.set_defaults(call=serve)

    verb = verbs.add_parser("predict", parents=[common], help="ask the served model, as `KEY=VALUE ...`")
    verb.add_argument("values", nargs="+", metavar="KEY=VALUE", help="what a caller knows, by column name")
    verb.add_argument("--url", help="base address (default: what `seaway serve` of this home serves)")
    verb.add_argument("--explain", action="store_true", help="ask for reason codes")
    verb.set_defaults(call=predict)

    verb = verbs.add_parser("release", help="release a candidate as a canary, and look after releases")
    actions = verb.add_subparsers(dest="action", metavar="ACTION", required=True)
    action = actions.add_parser("start", parents=[common], help="release the newest run's candidate, to the verdict")
    action.set_defaults(call=start)
    action = actions.add_parser("status", parents=[common], help="weights, evidence and phase now")
    action.set_defaults(call=status)
    action = actions.add_parser("abort", parents=[common], help="roll back the release under way")
    action.add_argument("reason", help="why; kept in the ledger")
    action.set_defaults(call=abort)
    action = actions.add_parser("freeze", parents=[common], help="hold the weights as they are; --off lets go")
    action.add_argument("--off", action="store_true")
    action.set_defaults(call=freeze)
    action = actions.add_parser(
        "history", parents=[common], help="the ledger: every decision, and whether it is intact"
    )
    action.set_defaults(call=history)

    verb = verbs.add_parser("report", parents=[common], help="write the HTML report of the newest run and its releases")
    verb.add_argument("--out", type=Path, metavar="FILE.html")
    verb.set_defaults(call=report)


def serve(args: argparse.Namespace) -> int:
    from pipelines.run import newest_run
    from serving.serve import serve_champion

    die_with_parent()
    config = options.config(args)
    serve_champion(config, newest_run(config), port=args.port, on_event=lambda text: print(text, flush=True))
    return 0


def predict(args: argparse.Namespace) -> int:
    from serving.serve import ask

    pairs = [value.partition("=") for value in args.values]
    if bad := [key for key, sign, _ in pairs if not sign]:
        raise SeawayError(f"{bad[0]!r} is not KEY=VALUE")
    request = {key: value for key, _, value in pairs}
    print(json.dumps(ask(options.config(args), request, url=args.url, explain=args.explain), indent=2))
    return 0


def start(args: argparse.Namespace) -> int:
    from pipelines.run import newest_run
    from seaway.artifacts import read_json
    from serving.release import run_release

    die_with_parent()
    config = options.config(args)
    run = newest_run(config)
    request = read_json(Path(run["outputs"]["release"]) / "release.json")
    record = run_release(config, request, run=run, on_event=lambda text: print(f"  {text}", flush=True))
    print(f"version {record['candidate']['version']} {record['verdict']}: {record['reason']}")
    return 0 if record["verdict"] == "promoted" else 1


def status(args: argparse.Namespace) -> int:
    from serving.rollout import commands

    print(json.dumps(commands.status(options.config(args)), indent=2))
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

    for line in commands.history(options.config(args)):
        entry = line["entry"]
        print(f"{line['seq']:>4}  {entry['started']}  {entry['release']:<28} {entry['what']:<12} {entry['why']}")
    return 0


def report(args: argparse.Namespace) -> int:
    from pipelines.run import newest_run

    config = options.config(args)
    print(write_report(config, newest_run(config), args.out).resolve().as_uri())
    return 0


def write_report(config: Config, run: dict[str, Any], out: Path | None = None) -> Path:
    """The report of a run, with the release of its candidate and of the harmed copy, where they happened."""
    from components.report.step import build
    from seaway.artifacts import read_json

    request = Path(run["outputs"].get("release", "")) / "release.json"
    name = read_json(request)["name"] if request.is_file() else run["run"]
    folders = [config.home / "releases" / release for release in (name, f"{name}-harmed")]
    done = [folder for folder in folders if (folder / "record.json").exists()]
    record = config.home / "runs" / run["run"] / "run.json"
    return build(config.home, done, record, out or config.home / "reports" / f"{name}.html")
