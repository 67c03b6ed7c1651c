"""Parity at size: held-out events replayed through Envoy and the model server, against the offline table.

``python -m benchmarks.parity [--home DIR] [--requests 10000] [--rate 120]`` uses the newest run of the
home (make demo makes one), serves its candidate alone, and ends with 1 when one of the float32 features
differs in a bit or a score by more than 1e-6.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from pipelines.run import newest_run
from seaway.artifacts import read_json
from seaway.config import load
from seaway.keys import public_key
from serving import smoke
from serving.release_plan import plan
from serving.release_record import traffic_summary
from serving.substrate.local import LocalSubstrate
from serving.traffic_process import TrafficProcess, job_record


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(".seaway"))
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=120.0)
    args = parser.parse_args()
    source = load(overrides={"home": str(args.home.resolve())})
    run = newest_run(source)
    request = read_json(Path(run["outputs"]["release"]) / "release.json")
    dataset, features = Path(run["outputs"]["dataset"]), Path(run["outputs"]["features"])
    with tempfile.TemporaryDirectory(prefix="seaway-parity-") as name:
        config = load(overrides={"home": name, "trust": {"public_key": str(public_key(source))}})
        wanted = plan(config, {**request, "champion": None})
        sender = TrafficProcess(
            job_record(
                config, folder=wanted.folder, dataset=dataset, features=features, store=wanted.store,
                predictors=wanted.predictors, limit=args.requests, rate=args.rate,
            )
        )  # fmt: skip
        with LocalSubstrate(config.home) as substrate:
            sender.start()
            sender.wait_filled()
            deployed = substrate.create(wanted.obj)["metadata"]["name"]
            url = substrate.wait_ready(deployed).url
            smoke.warm(url, config, dataset)
            started = time.monotonic()
            sender.go(url)
            while sender.alive():
                time.sleep(0.5)
            seconds = time.monotonic() - started
            numbers = traffic_summary(wanted.folder, config, sender.stop())
        found = smoke.parity(config, wanted, dataset, wanted.folder / "predictions.parquet")
    print(
        f"{numbers['sent']:,} requests in {seconds:.0f} s ({numbers['failed']} failed, "
        f"p50 {numbers['p50_ms']:.1f} ms, p99 {numbers['p99_ms']:.1f} ms)"
    )
    print(
        f"{found['checked']:,} answers checked: {found['feature_differences']} feature differences, "
        f"largest score difference {found['max_score_difference']:.2e}"
    )
    good = found["checked"] >= args.requests and not found["feature_differences"]
    return 0 if good and found["max_score_difference"] <= 1e-6 else 1


if __name__ == "__main__":
    sys.exit(main())
