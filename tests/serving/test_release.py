"""Whole releases with real servers, a real Envoy and a real feature store, at a small scale."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import psutil
import pytest

from seaway import ledger
from seaway.artifacts import read_json, write_json
from seaway.config import load, project_root
from seaway.errors import SeawayError
from seaway.hooks import resolve
from serving.release import run_release
from serving.release_plan import plan, predictor_name
from serving.rollout import commands
from serving.traffic_log import PredictionLog
from tests.serving.conftest import Bundles

pytestmark = pytest.mark.skipif(
    not (project_root() / ".venv-serving" / "bin" / "python").exists(), reason="needs the serving environment"
)
OVERRIDES = {
    "scale": "release",
    "release": {
        "rate": 80.0,
        "cap": "60s",
        # wide margins need few requests
        "guardrails": {
            "errors": {"margin": 0.05},
            "latency": {"margin": 0.3, "slo_ms": 1000},
            "decisions_up": {"margin": 0.1},
            "decisions_down": {"margin": 0.1},
        },
    },
    "workload": {"scales": {"release": {"customers": 400, "terminals": 800, "days": 100}}},
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """(home, config, dataset, features, bundles): the demo workload on little data, with simple models."""
    from components.dataset.step import dataset
    from components.features.step import features
    from components.ingest.step import ingest
    from components.validate.step import validate

    home = tmp_path_factory.mktemp("home")
    bundles = Bundles(home, {})
    config = load(overrides={**OVERRIDES, "home": str(home), "trust": bundles.trust})
    spec = resolve(config.workload.features, config.root)
    ingest(config.workload, config.root, "release", home / "raw")
    validate(config.workload, home / "raw", home / "valid", home / "quarantine.parquet")
    features(config.workload, spec, home / "valid", home / "features")
    dataset(config, spec, home / "features", home / "dataset")
    return home, config, replace(bundles, spec=spec)


def request_for(bundles, name, candidate, champion=None, **model):
    def version(number, **changes):
        return {"name": "m", "version": number, "run_id": f"run-{number}", "bundle": bundles.make(number, **changes)}

    settings = {"bias": -22.0, "weight": 0.1}  # positive above an amount of 220: rare
    return {
        "name": name,
        "candidate": version(candidate, **{**settings, **model}),
        "champion": version(champion, **settings) if champion else None,
    }


def at(config, home, **changes):
    return load(overrides=overrides(config, home, **changes))


def overrides(config, home, **changes):
    return {**OVERRIDES, "home": str(home), "trust": config.trust.model_dump(), **changes}


def left_over(home):
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if process.pid != os.getpid() and any(str(home) in part for part in process.info["cmdline"] or []):
            found.append(process.info["cmdline"])
    return found


def gone(home, seconds=40):
    deadline = time.monotonic() + seconds
    while left_over(home) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not left_over(home)


DRIVER = """
import json, sys
from pathlib import Path
from seaway.config import load
from serving.release import run_release
overrides, request, data = json.loads(sys.argv[1])
none = lambda version: None
run_release(load(overrides=overrides), request, dataset=Path(data) / "dataset", features=Path(data) / "features",
            promote=none, rollback=none, on_event=lambda text: print(text, flush=True))
"""


def test_killed_in_the_middle_it_goes_on_and_is_promoted_once(shop, tmp_path):
    home, config, bundles = shop
    config = at(config, tmp_path)
    request = request_for(bundles, "good", "2", "1")
    command = [json.dumps([overrides(config, tmp_path), request, str(home)])]
    folder = tmp_path / "releases" / "good"
    first = subprocess.Popen([sys.executable, "-c", DRIVER, *command], cwd=project_root(), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 90
    while not list((folder / "predictions").glob("part-*")) and time.monotonic() < deadline:
        assert first.poll() is None
        time.sleep(0.05)
    first.kill()
    first.wait()
    assert gone(tmp_path), left_over(tmp_path)
    resumed = PredictionLog(folder / "predictions").reserved()
    counted = commands.status(config)["evidence"][0]
    assert counted["canary"]["n"] + counted["stable"]["n"] > 0 and commands.status(config)["phase"] == "running"

    promoted, events = [], []
    record = run_release(
        config,
        request,
        dataset=home / "dataset",
        features=home / "features",
        promote=promoted.append,
        on_event=events.append,
    )
    assert record["verdict"] == "promoted" and promoted == ["2"], record["reason"]
    assert any("goes on from where it was" in text for text in events)
    answers = pl.read_parquet(folder / "predictions.parquet")
    assert answers["row"].is_unique().all() and (answers.filter(pl.col("row") >= resumed)["status"] == 200).all()
    # a sender that outlives the proxy by some milliseconds, when all are killed, finds no connection
    assert set(answers["status"]) <= {0, 200}
    answered = answers.filter(pl.col("status") == 200)
    assert set(answered["predictor"]) == {"v1", "v2"}
    assert record["parity"]["checked"] == answered.height and record["parity"]["feature_differences"] == 0
    assert record["parity"]["max_score_difference"] <= 1e-6
    assert [w["canary"] for w in record["weights"]] == [10, 25, 50, 100]
    limit = np.log(record["thresholds"]["promote"])
    last = {row["guardrail"]: row for row in record["evidence"]}
    assert set(last) == set(config.release.guardrails) and all(r["log_e_promote"] >= limit for r in last.values())
    assert commands.status(config)["weights"] == {"v2": 100}
    assert gone(tmp_path), left_over(tmp_path)

    # the decision stands: nothing is started again, and the ledger has it once
    again = run_release(config, request, dataset=home / "dataset", features=home / "features", promote=promoted.append)
    assert again == read_json(folder / "record.json") and promoted == ["2"]
    lines = commands.history(config)
    assert [line["entry"]["what"] for line in lines] == ["promoted"]
    assert lines[0]["entry"]["spec"] == record["spec"] and ledger.verify(tmp_path / "ledger.jsonl")["entries"] == 1

    # killed between the ledger and the record: finished without deciding anew
    (folder / "record.json").unlink()
    finished = run_release(
        config, request, dataset=home / "dataset", features=home / "features", promote=promoted.append
    )
    assert finished["verdict"] == "promoted" and finished["ledger"] == record["ledger"]


def test_a_harmed_candidate_is_rolled_back(shop, tmp_path):
    home, config, bundles = shop
    config = at(config, tmp_path)
    request = request_for(bundles, "harmed", "3", "1")
    rejected = []
    record = run_release(
        config,
        request,
        dataset=home / "dataset",
        features=home / "features",
        faults={"error_rate": 0.3},
        rollback=rejected.append,
    )
    assert record["verdict"] == "rolled back" and rejected == ["3"]
    assert record["reason"].startswith("errors is worse")
    assert record["weights"][-1]["predictors"] == {"v1": 100}
    assert record["traffic"]["failed"] > 0 and record["traffic"]["by_predictor"]["v1"]["failed"] == 0
    assert gone(tmp_path), left_over(tmp_path)


def test_a_killed_predictor_is_not_promoted(shop, tmp_path):
    home, config, bundles = shop
    config = at(config, tmp_path)
    request = request_for(bundles, "killed", "4", "1")

    def kill():
        parts = tmp_path / "releases" / "killed" / "predictions"
        while not list(parts.glob("part-*")):
            time.sleep(0.05)
        operator = read_json(tmp_path / "run" / "operator.json")["pid"]
        servers = {}
        for process in psutil.Process(operator).children():
            with contextlib.suppress(psutil.Error):  # one that has just ended
                servers[process.environ().get("PREDICTOR_ID")] = process
        servers["v4"].kill()

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    record = run_release(config, request, dataset=home / "dataset", features=home / "features", rollback=lambda v: None)
    thread.join()
    assert record["verdict"] == "rolled back", record["reason"]
    assert "crashed" in record["reason"] or "errors is worse" in record["reason"]
    assert record["traffic"]["failed"] <= 0.01 * record["traffic"]["sent"] + 1


def test_a_first_release_and_an_interrupted_one(shop, tmp_path):
    home, config, bundles = shop
    config = at(config, tmp_path)
    request = request_for(bundles, "first", "5")
    record = run_release(config, request, dataset=home / "dataset", features=home / "features", promote=lambda v: None)
    assert record["verdict"] == "promoted" and record["reason"].startswith("first release")
    assert record["champion"] is None and record["traffic"]["failed"] == 0

    request = request_for(bundles, "second", "6", "5")
    command = [json.dumps([overrides(config, tmp_path), request, str(home)])]
    child = subprocess.Popen([sys.executable, "-c", DRIVER, *command], cwd=project_root(), stderr=subprocess.PIPE)
    deadline = time.monotonic() + 90
    while not (tmp_path / "releases" / "second" / "predictions" / "sent.json").exists():
        assert time.monotonic() < deadline and child.poll() is None
        time.sleep(0.05)
    with pytest.raises(SeawayError, match="a release is under way"):
        run_release(config, request, dataset=home / "dataset", features=home / "features")
    child.send_signal(signal.SIGTERM)
    _, said = child.communicate(timeout=40)
    assert child.returncode != 0 and b"stopped before a verdict" in said
    assert gone(tmp_path), left_over(tmp_path)
    assert commands.status(config)["phase"] == "running"


def test_a_candidate_that_cannot_be_served_is_rolled_back(shop, tmp_path):
    home, config, bundles = shop
    config = at(config, tmp_path)
    request = request_for(bundles, "broken", "8", "1")
    Path(request["candidate"]["bundle"], "model.onnx").write_bytes(b"not a model")
    bundles.sign(request["candidate"]["bundle"])
    record = run_release(config, request, dataset=home / "dataset", features=home / "features", rollback=lambda v: None)
    assert record["verdict"] == "rolled back" and "cannot be served" in record["reason"]
    assert gone(tmp_path), left_over(tmp_path)


def test_a_bundle_that_is_changed_after_the_release_began_is_rolled_back(shop, tmp_path):
    home, config, bundles = shop
    config = at(config, tmp_path)
    request = request_for(bundles, "tampered", "9", "1")
    model = Path(request["candidate"]["bundle"], "model.onnx")

    def tamper(text):
        if text.startswith("filling"):  # planned and in the object; no server runs yet
            model.write_bytes(model.read_bytes()[:-1] + b"\0")

    data = {"dataset": home / "dataset", "features": home / "features"}
    record = run_release(config, request, **data, rollback=lambda v: None, on_event=tamper)
    assert record["verdict"] == "rolled back" and "was changed after it was signed: model.onnx" in record["reason"]
    assert record["weights"][-1]["predictors"] == {"v1": 100} and record["traffic"]["failed"] == 0


def test_a_bundle_that_is_changed_while_it_is_served_is_never_promoted(shop, tmp_path):
    home, config, bundles = shop
    config = at(config, tmp_path)
    request = request_for(bundles, "swapped", "10", "1")
    model, refused = Path(request["candidate"]["bundle"], "model.onnx"), []

    def tamper(text):
        if text.startswith("ramp"):  # both serve what was signed, and go on doing so
            model.write_bytes(model.read_bytes()[:-1] + b"\0")
        if "may not be promoted" in text and not refused:  # asked only when the evidence would promote it
            refused.append(text)
            commands.abort(config, "seen enough")

    data = {"dataset": home / "dataset", "features": home / "features"}
    record = run_release(config, request, **data, rollback=lambda v: None, on_event=tamper)
    assert "was changed after it was signed: model.onnx" in refused[0]
    assert record["verdict"] == "rolled back" and record["weights"][-1]["predictors"] == {"v1": 100}
    assert record["parity"]["checked"] > 0, "of the stable's answers: the canary's model is not what was served"


def test_plan_names_and_refusals(shop, tmp_path):
    _, config, bundles = shop
    request = request_for(bundles, "p", "7", "1")
    made = plan(config, request)
    assert made.predictors == {"1": "v1", "7": "v7"} and predictor_name({"version": "7-Harmed"}) == "v7-harmed"
    assert made.spec != plan(config, {**request, "faults": {"error_rate": 0.1}}).spec
    assert plan(config, {**request, "champion": request["candidate"]}).champion is None
    write_json(tmp_path / "x" / "model.json", {})
    with pytest.raises(SeawayError, match="is gone"):
        plan(config, {**request, "candidate": {**request["candidate"], "bundle": str(Path(tmp_path / "x"))}})
