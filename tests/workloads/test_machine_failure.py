"""The second workload up to its features, each value checked against a plain, slow definition."""

import json
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from components.features.step import features
from components.ingest.step import ingest
from components.validate.step import validate
from seaway.artifacts import canonical_json
from seaway.config import Config, load
from seaway.features import FeatureSpec
from seaway.hooks import resolve

FILE = Path(__file__).parent / "machine_failure" / "workload.yaml"


@pytest.fixture(scope="module")
def config() -> Config:
    return load("local", workload=FILE)


@pytest.fixture(scope="module")
def spec(config) -> FeatureSpec:
    return resolve(config.workload.features, config.root)


@pytest.fixture(scope="module")
def steps(config, spec, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("machines")
    ingest(config.workload, config.root, "tiny", folder / "raw")
    validate(config.workload, folder / "raw", folder / "valid", folder / "quarantine.parquet")
    features(config.workload, spec, folder / "valid", folder / "features")
    return folder


def test_the_file_is_a_valid_workload(config, spec):
    assert config.workload.name == "machine-failure"
    assert spec.time == config.workload.sources["readings"].time
    assert set(spec.inputs) <= set(config.workload.sources["readings"].columns)
    assert {view.entity for view in (*spec.windows, *spec.latest)} == set(config.workload.entities)
    assert len(set(spec.names)) == len(spec.names) == 18


def test_the_definition_survives_its_record(spec):
    """A model's record is JSON with sorted keys: the order of the model's input must not hang on theirs."""
    again = FeatureSpec.from_record(json.loads(canonical_json(spec.as_record())))
    assert again.names == spec.names
    assert again.hash == spec.hash


def test_both_sources_keep_their_contracts(steps):
    readings = pl.read_parquet(steps / "valid" / "readings.parquet")
    assert readings.height == pl.read_parquet(steps / "raw" / "readings.parquet").height > 15_000
    assert pl.read_parquet(steps / "valid" / "maintenance.parquet").height > 500
    assert pl.read_parquet(steps / "quarantine.parquet").is_empty()
    assert 0.02 < readings["failed_within_24h"].mean() < 0.10


def test_the_draw_is_the_same_each_time(config, steps, tmp_path):
    ingest(config.workload, config.root, "tiny", tmp_path)
    for name in config.workload.sources:
        again, before = (pl.read_parquet(p / f"{name}.parquet") for p in (tmp_path, steps / "raw"))
        assert again.equals(before)


def test_a_machine_stands_still_after_each_failure(steps):
    """The label says the truth: after its last positive reading, a machine is silent or back with little wear."""
    readings = pl.read_parquet(steps / "valid" / "readings.parquet").sort("machine_id", "measured_at")
    following = readings.with_columns(
        pl.col("failed_within_24h").shift(-1).over("machine_id").alias("next"),
        pl.col("measured_at").shift(-1).over("machine_id").alias("next_at"),
        pl.col("vibration").rolling_mean(3).over("machine_id").alias("before"),
        pl.col("vibration").rolling_mean(3).shift(-4).over("machine_id").alias("after"),
    ).filter((pl.col("failed_within_24h") == 1) & (pl.col("next") == 0))
    assert following.height > 50
    assert (following["next_at"] - following["measured_at"]).min() > timedelta(hours=4)
    assert following["after"].mean() < following["before"].mean() - 1


def test_windows_hold_what_was_known(steps):
    """Ten events, each feature added up by hand from the validated rows."""
    table = pl.read_parquet(steps / "features" / "features.parquet")
    rows = pl.read_parquet(steps / "valid" / "readings.parquet")
    for event in table.sample(10, seed=1).iter_rows(named=True):
        now = event["measured_at"]
        own = rows.filter((pl.col("machine_id") == event["machine_id"]) & (pl.col("measured_at") <= now))
        for hours in (6, 24, 72):
            inside = own.filter(pl.col("measured_at") > now - timedelta(hours=hours))
            assert event[f"machine_readings_{hours}h"] == inside.height
            assert event[f"machine_vibration_{hours}h"] == pytest.approx(inside["vibration"].mean(), rel=1e-6)
        known = now - timedelta(days=2)
        site = rows.filter((pl.col("site_id") == event["site_id"]) & (pl.col("measured_at") <= known))
        for days in (1, 3, 7):
            inside = site.filter(pl.col("measured_at") > known - timedelta(days=days))
            assert event[f"site_readings_{days}d"] == inside.height
            share = inside["failed_within_24h"].mean() if inside.height else 0.0
            assert event[f"site_failure_share_{days}d"] == pytest.approx(share, rel=1e-6)
        assert event["label_known_at"] == now + timedelta(days=2)


def test_the_maintenance_view_is_the_second_source_as_of_its_own_time(steps):
    view = pl.read_parquet(steps / "features" / "machine_maintenance.parquet")
    source = pl.read_parquet(steps / "valid" / "maintenance.parquet")
    assert view["created_timestamp"].equals(source["inspected_at"], check_names=False)
    assert (view["event_timestamp"] >= view["created_timestamp"]).all()
    assert view["wear_at_inspection"].to_numpy() == pytest.approx(source["wear"].to_numpy(), abs=1e-6)


def test_its_features_tell_failures_apart(steps):
    """A straight line on what is known reaches an AUC of 0.85: there is something to learn."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    table = pl.read_parquet(steps / "features" / "features.parquet")
    names = [n for n in table.columns if n.startswith(("machine_v", "machine_r", "site_f", "vibration_", "load_"))]
    half = table.height // 2
    x, y = table.select(names).to_numpy(), table["failed_within_24h"].to_numpy()
    line = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(x[:half], y[:half])
    late = slice(int(table.height * 0.6), None)
    assert roc_auc_score(y[late], line.predict_proba(x[late])[:, 1]) > 0.85


def test_its_model_takes_raw_features(config, spec):
    torch = pytest.importorskip("torch")
    build = resolve(config.workload.model, config.root).build
    n = len(spec.names)
    mean, std = np.full(n, 5.0, np.float32), np.full(n, 2.0, np.float32)
    torch.manual_seed(0)
    model = build({"units": 8, "learning_rate": 0.1}, mean, std).eval()
    rows = torch.randn(4, n) * 2 + 5
    logits = model(rows)
    assert logits.shape == (4,)
    again = build({"units": 8}, mean + 1, std).eval()
    again.load_state_dict({**model.state_dict(), "mean": again.mean})
    assert torch.allclose(again(rows + 1), logits, atol=1e-5)  # the standardisation is part of the model
