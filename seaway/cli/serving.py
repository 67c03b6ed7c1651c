"""Verbs of serving: serve, predict, report."""

from __future__ import annotations

import argparse
import json
import sys
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


def report(args: argparse.Namespace) -> int:
    from pipelines.run import newest_run

    config = options.config(args)
    run = newest_run(config, lambda text: print(text, file=sys.stderr))
    print(write_report(config, run, args.out).resolve().as_uri())
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
