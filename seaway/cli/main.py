"""``seaway VERB``: parse, dispatch, and turn failures into one clear line and an exit code."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence

from seaway.cli import cost, data, demo, doctor, plan, promote, release, score, serving, train
from seaway.errors import SeawayError


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="seaway",
        description="One release train, on a laptop and on a cluster: data, features, sweep, model, verdict, canary.",
        epilog="Start with `seaway demo --scale small`. `seaway VERB --help` tells more. "
        "Exit codes: 0 done, 1 a gate said no, 2 a problem that the message explains, 3 a defect, 130 stopped by you.",
    )
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)
    for module in (demo, train, release, promote, score, serving, data, plan, cost, doctor):
        module.add(verbs)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    args = parser().parse_args(argv)
    signal.signal(signal.SIGTERM, _stop)
    try:
        return args.call(args) or 0
    except SeawayError as error:
        print(f"seaway {args.verb}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped. Run the same command again to go on from here.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except Exception as error:
        with tempfile.NamedTemporaryFile("w", prefix="seaway-", suffix=".txt", delete=False) as report:
            traceback.print_exc(file=report)
        print(
            f"seaway {args.verb}: unexpected {type(error).__name__}: {error}\n"
            f"This is a defect of Seaway; please report it with {report.name}",
            file=sys.stderr,
        )
        return 3


def _stop(*_: object) -> None:
    raise KeyboardInterrupt
