"""Slices are one version: registered with MLflow, signed, served by Seldon's microservice, named in log and card."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from components.evaluate.step import evaluate
from components.register.step import PAGE, register
from seaway import scorer
from seaway.artifacts import content_hash, read_json
from seaway.config import project_root
from seaway.keys import public_key
from seaway.registry import SIGNED, Registry
from serving.substrate.operator.child import free_ports
from tests.components.slice_world import NAMES, SPEC, write_bundle, write_dataset

PYTHON = project_root() / ".venv-serving" / "bin" / "python"


@pytest.fixture(scope="module")
def version(toy_hooks, tmp_path_factory):
    """(configuration, the version as registered, folder of the register step), evaluated and registered for real."""
    from tests.components.conftest import make_config

    folder = tmp_path_factory.mktemp("version")
    config, _ = make_config(folder, toy_hooks)
    bundle, out = write_bundle(folder / "bundle", SPEC), folder / "evaluation"
    evaluate(config, SPEC, write_dataset(folder), bundle, None, out)
    lineage = {"model_hash": content_hash(bundle), "data_hash": "d", "feature_hash": SPEC.hash, "config_hash": "c"}
    told = register(config, bundle, out, lineage, folder / "registered")
    return config, Registry.of(config).get(told["version"]), folder / "registered"


def test_one_version_names_every_slice_in_tags_record_and_card(version):
    config, found, out = version
    assert Registry.of(config).find(int(found.version) + 1) is None
    assert found.tags["slices"] == "by site: 2 own models, 1 fall back"
    why = "30 rows, fewer than minimum_rows 500"
    assert read_json(out / "version.json")["slices"] == {"by": "site", "kept": ["7", "north"], "left": {"south": why}}
    card = (out / "model_card.md").read_text()
    part = card[card.index("## Slices") : card.index("## Limits")]
    assert "Rows are routed by site: 2 values have a model of their own, 1 fall back" in part
    assert "by the global model alone" in part
    assert [line.split(" |")[0] for line in part.splitlines() if line.startswith("| ")][2:4] == ["| 7", "| north"]
    assert f"| south | {why} |" in part
    table = read_json(Path(found.bundle) / "slices.json")
    assert "the decision is 1, by the global model; a slice's own model has a threshold of its own" in card
    for name, kept in table["kept"].items():
        line = next(line for line in part.splitlines() if line.startswith(f"| {name} |"))
        assert line.endswith(f"| {kept['threshold']:.4g} |")
    for kept in table["kept"].values():
        assert (Path(found.bundle) / kept["folder"] / "model.onnx").exists()


def test_the_registrys_page_holds_hundreds_of_slices(version):
    from seaway.model_card import model_card

    parts = [
        {"slice": f"region {i}", "kept": i % 2 == 0, "reason": "" if i % 2 == 0 else "its fit failed: ValueError"}
        | {"test": {"rows": i, "positives": 1, "own": 0.5, "global": 0.4}}
        for i in range(300)
    ]
    made = {"model": {}, "metrics": {}, "verdict": {}, "segments": [], "lineage": {}}
    whole = model_card("m", "1", **made, slices={"by": "region", "slices": parts})
    page = model_card("m", "1", **made, slices={"by": "region", "slices": parts}, slices_shown=10)
    assert whole.count("| region ") == 300
    assert page.count("| region ") == 20
    assert "… and 140 more" in page
    assert len(page) < PAGE


def test_as_many_slices_as_may_be_asked_for_fit_into_a_signed_bundle():
    from seaway.config.workload import FILES, MAX_SLICES
    from seaway.signature import MAX_FILES

    assert FILES == MAX_FILES and 2 * MAX_SLICES < MAX_FILES


@pytest.fixture(scope="module")
def server(version, tmp_path_factory):
    """The URL of Seldon's microservice for the registered bundle, and the folder of its prediction logs."""
    config, found, _ = version
    folder = tmp_path_factory.mktemp("server")
    store = folder / "online.db"
    sqlite3.connect(store).close()
    values = {
        "bundle": found.bundle,
        "online_store": json.dumps({"type": "sqlite", "path": str(store)}),
        "log": str(folder / "answers"),
        "digest": found.tags[SIGNED],
        "public_key": str(public_key(config)),
        "version": found.version,
    }
    parameters = [{"name": name, "value": value, "type": "STRING"} for name, value in values.items()]
    http, grpc, metrics = free_ports(3)
    environment = os.environ | {
        "PREDICTIVE_UNIT_HTTP_SERVICE_PORT": str(http),
        "PREDICTIVE_UNIT_GRPC_SERVICE_PORT": str(grpc),
        "PREDICTIVE_UNIT_METRICS_SERVICE_PORT": str(metrics),
        "PREDICTIVE_UNIT_PARAMETERS": json.dumps(parameters),
        "PYTHONPATH": str(project_root()),
    }
    with (folder / "log").open("w") as output:
        process = subprocess.Popen(
            [PYTHON, "-m", "serving.microservice"], stdout=output, stderr=output, env=environment
        )
    try:
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{http}/health/status", timeout=5):
                    break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.1)
        yield f"http://127.0.0.1:{http}/api/v1.0/predictions", folder / "answers"
    finally:
        process.terminate()
        process.wait(30)


def test_a_server_routes_the_rows_of_a_request_and_logs_whose_model_scored_them(version, server):
    """Two slices, one that fell back, an unknown value, a number for a text: each answer is its model's, to the bit."""
    _, found, _ = version
    url, logs = server
    draw = np.random.default_rng(2)
    sites = ["north", "7", 7, "south", "nowhere", "north"]
    features = np.round(draw.normal(size=(len(sites), 4)), 3)
    rows = [[1, site, "2024-05-04T10:00:00", *map(float, f)] for site, f in zip(sites, features, strict=True)]
    body = {"data": {"names": ["machine", "site", "at", *NAMES], "ndarray": rows}, "meta": {"puid": "request-1"}}
    body["meta"]["tags"] = {"explain": True}
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as reply:
        answer = json.load(reply)
    tags = answer["meta"]["tags"]
    assert tags["model_version"] == found.version
    assert tags["slice"] == ["north", "7", "7", "global", "global", "north"]
    folders = {"north": "slices/001", "7": "slices/002", "global": "."}
    given = np.array([score for score, _ in answer["data"]["ndarray"]], dtype=np.float32)
    table = read_json(Path(found.bundle) / "slices.json")["kept"]
    for i, name in enumerate(tags["slice"]):
        running = scorer.session((Path(found.bundle) / folders[name] / "model.onnx").read_bytes(), 4)
        wanted = scorer.scores(running, features[i : i + 1].astype(np.float32))
        assert given[i : i + 1].tobytes() == wanted.tobytes(), (i, name)
        assert answer["data"]["ndarray"][i][1] == int(wanted[0] >= (table[name]["threshold"] if name in table else 0.5))
    assert {code["feature"] for code in tags["reasons"][0]} == {"speed"}  # the model of north reads nothing else
    deadline, lines = time.monotonic() + 20, []
    while len(lines) < len(sites) and time.monotonic() < deadline:
        time.sleep(0.1)
        lines = [json.loads(line) for file in logs.rglob("*.jsonl") for line in file.read_text().splitlines()]
    assert [line["s"] for line in lines] == tags["slice"]
    assert [line["p"] for line in lines] == pytest.approx(given.tolist(), abs=1e-9)
    assert {line["v"] for line in lines} == {found.version}
