"""Fetches one model bundle and checks it: what a model server's init container runs.

    python -m serving.fetch_bundle --uri s3://… --folder /bundle/model --digest SHA256 --key model.pub

Exit codes: 0 the folder holds that bundle, 1 it does not, and the reason is on standard error.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from seaway.errors import SeawayError


def main(arguments: Sequence[str] | None = None) -> int:
    from seaway.bundles import fetched
    from seaway.storage import Storage

    parser = argparse.ArgumentParser(prog="python -m serving.fetch_bundle", description=__doc__.split("\n")[0])
    parser.add_argument("--uri", required=True, help="of the published bundle")
    parser.add_argument("--folder", required=True, type=Path, help="where it is to be")
    parser.add_argument("--digest", required=True, help="that was signed")
    parser.add_argument("--key", required=True, type=Path, help="the trusted public key")
    args = parser.parse_args(arguments)
    try:
        folder = fetched(Storage.by_environment(args.uri), args.uri, args.folder, args.key, args.digest)
    except SeawayError as error:
        print(f"the bundle cannot be served: {error}", file=sys.stderr, flush=True)
        return 1
    print(f"{folder} holds {args.uri}, signed, digest {args.digest}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
