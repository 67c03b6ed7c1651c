"""A model per slice end to end, where one is really kept: in one region the sensors are mounted the other way round."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import polars as pl
import pytest

from seaway.config import project_root
from tests.e2e.test_train import SEAWAY, seaway

TURNED = """
    names = ["north", "south", "east", "west"]
    known = [names[m % 4] if m % 24 else None for m in table["machine_id"].to_list()]
    table = table.with_columns(region=pl.Series(known))
    south = pl.col("region") == "south"
    table = table.with_columns(
        vibration=pl.when(south).then((7 - pl.col("vibration")).clip(0.1, 50)).otherwise("vibration").round(2),
        temperature=pl.when(south).then(110 - pl.col("temperature")).otherwise("temperature").round(1),
    )
    table.with_row_index"""
# file: what to put in place of what, beside the package's name
CHANGES = {
    "generate.py": [('\n    table.with_row_index("reading_id")', f'{TURNED}("reading_id")')],
    "feature_repo/definitions.py": [('"site_id", "vibration"', '"site_id", "region", "vibration"')],
    "workload.yaml": [
        ("name: machine-failure", "name: turned-plant"),
        ("      vibration: {type", "      region: {type: str, nullable: true}\n      vibration: {type"),
        ("tiny: {machines: 80, sites: 5,", "tiny: {machines: 240, sites: 5,"),
        ("{auc_roc: 0.8, average_precision: 0.35}", "{auc_roc: 0.6}"),
    ],
}  # fmt: skip
WIDE = [f"release.guardrails.{name}.margin=0.25" for name in ("decisions_up", "decisions_down", "flips")]


def workload(folder: Path) -> Path:
    made = folder / "turned_plant"
    shutil.copytree(
        project_root() / "tests" / "workloads" / "machine_failure", made, ignore=shutil.ignore_patterns("__pycache__")
    )
    for file in (*made.rglob("*.py"), *made.rglob("*.yaml")):
        text = file.read_text().replace("machine_failure", "turned_plant")
        for old, new in CHANGES.get(str(file.relative_to(made)), ()):
            assert text.count(old) == 1, (file, old)
            text = text.replace(old, new)
        file.write_text(text)
    with (made / "workload.yaml").open("a") as file:
        file.write("\nslices: {by: region, minimum_rows: 300, minimum_positives: 5}\n")
    return made / "workload.yaml"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_kept_slice_is_trained_released_against_a_model_without_slices_and_served(tmp_path):
    home, named = tmp_path / "home", ["--workload", str(workload(tmp_path))]
    seaway("run", *named, "--scale", "tiny", "--trials", "1", "--set", "workload.sweep.max_epochs=6", home=home)
    run = json.loads(next(home.glob("runs/*/run.json")).read_text())
    table = json.loads((Path(run["outputs"]["train"]) / "slices.json").read_text())
    assert "south" in table["kept"]
    assert "rows without a value" in table["left"][""]["reason"]
    tested = json.loads((Path(run["outputs"]["evaluate"]) / "slices.json").read_text())
    south = next(part["test"] for part in tested["slices"] if part["slice"] == "south")
    assert south["own"] > south["global"] + 0.05

    assert "version 2 promoted" in seaway(
        "release", "start", *named, *(t for w in WIDE for t in ("--set", w)), home=home
    )
    record = json.loads((home / "releases" / "turned-plant-2" / "record.json").read_text())
    assert record["champion"]["kind"] == "baseline"  # which has no slices, and takes the same requests
    assert record["traffic"]["failed"] == 0
    assert record["parity"]["checked"] > 200
    assert record["parity"]["feature_differences"] == 0
    assert record["parity"]["max_score_difference"] <= 1e-6
    lines = [json.loads(line) for file in home.rglob("answers/**/*.jsonl") for line in file.read_text().splitlines()]
    assert {"global", "south"} <= {line["s"] for line in lines if line["v"] == "2"}

    file = Path(run["outputs"]["dataset"]) / "replay.parquet"
    seaway("score", *named, "--data", str(file), "--set", "scoring.workers=1", home=home)
    log = pl.read_parquet(home / "releases" / "turned-plant-2" / "predictions.parquet").filter(version="2")
    replay = pl.read_parquet(file).sort("event_timestamp")
    log = log.with_columns(reading_id=replay["reading_id"].gather(log["row"]))
    both = log.join(pl.read_parquet(home / "scores" / "scores" / "*.parquet"), on="reading_id", suffix="_batch")
    assert both.height == log.height > 100
    assert both["probability"].cast(pl.Float32).equals(both["probability_batch"], check_names=False)

    request = ["machine_id=9", "site_id=3", "vibration=4.5", "temperature=70", "load=0.7"]
    request.append("measured_at=2024-04-10T10:00:00")
    server = subprocess.Popen([SEAWAY, "serve", *named, "--home", str(home)], stdout=subprocess.PIPE, text=True)
    try:
        assert any("answers at" in text for text in server.stdout)
        found = {
            region: json.loads(seaway("predict", *named, *request, f"region={region}", "--explain", home=home))
            for region in ("south", "atlantis", "")
        }
    finally:
        server.terminate()
        assert server.wait(timeout=30) == 0
    assert [answer["slice"] for answer in found.values()] == [["south"], ["global"], ["global"]]
    assert found["south"]["probability"] != found["atlantis"]["probability"] == found[""]["probability"]
    assert found["south"]["reasons"] != found["atlantis"]["reasons"]
    assert {answer["model_version"] for answer in found.values()} == {"2"}
