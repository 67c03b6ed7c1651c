"""Fills an environment's online store from a run's features: a new store, or one that was lost.

    python -m serving.fill_store --env prod --features s3://bucket/prefix/cache/features/KEY

What is in the store is replaced, entity by entity, by the state after the newest event of the features. Their folder
is the step's output, or the step cache's entry of it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC
from pathlib import Path
from typing import Any

from seaway.config import Config
from seaway.errors import SeawayError


def fill(config: Config, features: Path, store: dict[str, Any] | None = None) -> dict[str, int]:
    """Entities written by view. ``features``: the folder of the features step; SeawayError when it is none."""
    import polars as pl

    from seaway.features import MICRO
    from seaway.hooks import resolve
    from serving.release_plan import online_store
    from serving.stream import FeatureStream

    found = [f for place in (".", "outputs/*") for f in features.glob(f"{place}/features.parquet")]
    if not found:
        raise SeawayError(f"{features} holds no features.parquet: give the output of a run's step `features`")
    file, features = found[0], found[0].parent
    spec = resolve(config.workload.features, config.root)
    newest = pl.scan_parquet(file).select(pl.col("event_timestamp").max()).collect().item()
    if newest is None:
        raise SeawayError(f"{file} has no rows: there is nothing to fill the store with")
    stream = FeatureStream(config, spec, features, store or online_store(config, "serve"))
    try:
        return stream.materialize((int(newest.replace(tzinfo=UTC).timestamp()) + 1) * MICRO)
    finally:
        stream.close()


def main(arguments: Sequence[str] | None = None) -> int:
    from seaway.config import load
    from seaway.storage import Storage, is_uri

    parser = argparse.ArgumentParser(prog="python -m serving.fill_store", description=__doc__.split("\n")[0])
    parser.add_argument("--env", default="local", help="environment: a file of config/ (default: local)")
    parser.add_argument("--workload", type=Path, metavar="FILE", help="the workload's file (default: the demo's)")
    parser.add_argument("--connection", metavar="HOST:PORT", help="where the store answers from here, if elsewhere")
    parser.add_argument("--features", required=True, metavar="FOLDER", help="of a run's step `features`, or its URI")
    args = parser.parse_args(arguments)
    try:
        overrides = {"online_store": {"connection": args.connection}} if args.connection else {}
        config = load(args.env, workload=args.workload, overrides=overrides)
        if not is_uri(args.features):
            written = fill(config, Path(args.features))
        else:
            with tempfile.TemporaryDirectory(prefix="seaway-") as name:
                folder = Path(name) / "features"
                Storage.holding(config, args.features).fetch(args.features, folder)
                written = fill(config, folder)
    except SeawayError as error:
        print(f"the store is not filled: {error}", file=sys.stderr)
        return 2
    print("\n".join(f"{view}: {count:,} entities" for view, count in written.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
