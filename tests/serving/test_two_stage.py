"""Two-stage releases for real: fast guardrails promote provisionally, delayed labels confirm or roll back."""

from __future__ import annotations

import threading
import time

import pytest

from seaway.config import load, project_root
from seaway.hooks import resolve
from serving.release import run_release
from serving.rollout import state as states
from serving.rollout.state import PROVISIONAL
from serving.signals.labels import feed_of, read_key, tell
from serving.substrate.store import ObjectStore
from tests.serving.conftest import Bundles
from tests.serving.delayed_labels import DelayedLabels, labels_of

pytestmark = pytest.mark.skipif(
    not (project_root() / ".venv-serving" / "bin" / "python").exists(), reason="needs the serving environment"
)
WIDE = {"margin": 0.3, "tolerance": 0.2}  # wide margins need few requests
OVERRIDES = {
    "scale": "stages",
    "release": {
        "rate": 80.0,
        "cap": "60s",
        "ramp": [20, 50],
        "mirror": 100,
        "guardrails": {
            "errors": {"margin": 0.1},
            "latency": {"margin": 0.5, "slo_ms": 1000},
            "decisions_up": WIDE,
            "decisions_down": WIDE,
            "flips": WIDE,
        },
        "labels": {"loss": "log", "margin": 0.1, "holdback": 20, "wait": "60s"},
    },
    "workload": {"scales": {"stages": {"customers": 400, "terminals": 800, "days": 100}}},
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """(home, bundles): the demo workload on little data."""
    from components.dataset.step import dataset
    from components.features.step import features
    from components.ingest.step import ingest
    from components.validate.step import validate

    home = tmp_path_factory.mktemp("home")
    config = load(overrides={**OVERRIDES, "home": str(home)})
    spec = resolve(config.workload.features, config.root)
    ingest(config.workload, config.root, "stages", home / "raw")
    validate(config.workload, home / "raw", home / "valid", home / "quarantine.parquet")
    features(config.workload, spec, home / "valid", home / "features")
    dataset(config, spec, home / "features", home / "dataset")
    return home, Bundles(home, {}, spec)


class Labels(threading.Thread):
    """Holds the labels back until the release is provisional; then each is known as soon as it is asked for."""

    def __init__(self, config, shop_home):
        super().__init__(daemon=True)
        self.config, self.store, self.provisional = config, ObjectStore(config.home / "objects"), []
        feed, key = feed_of(config)
        name, key = config.workload.name, read_key(key, make=True)
        labels = labels_of(config, shop_home / "dataset" / "replay.parquet")
        self.teller = DelayedLabels(config.home / "answers" / name, labels, feed, key, after=0.5)
        # whoever has no key cannot push the release either way
        tell(feed, b"not the key at all", [(i, 1 - y, time.time()) for i, y in labels.items()], "forger")

    def run(self):
        name = self.config.workload.name
        while not self.provisional:
            time.sleep(0.1)
            if name in self.store.names():
                obj = self.store.read(name)
                state = states.load(obj)
                if state and state.phase == PROVISIONAL:
                    self.provisional.append(obj)
        with self.teller:
            time.sleep(60)


def released(shop, tmp_path, name, **candidate):
    """(record, the object when it was provisional, what was said) of a release against an equal champion."""
    home, bundles = shop
    config = load(overrides={**OVERRIDES, "home": str(tmp_path), "trust": bundles.trust})

    def version(number, **changes):
        settings = {"bias": -22.0, "weight": 0.1, **changes}  # positive above an amount of 220: rare
        return {"name": "m", "version": number, "run_id": f"r{number}", "bundle": bundles.make(number, **settings)}

    request = {"name": name, "candidate": version(f"{name}-2", **candidate), "champion": version(f"{name}-1")}
    labels, events = Labels(config, home), []
    labels.start()
    record = run_release(
        config,
        request,
        dataset=home / "dataset",
        features=home / "features",
        promote=lambda v: events.append(f"alias of {v}"),
        rollback=lambda v: events.append(f"no alias for {v}"),
        on_event=events.append,
    )
    assert labels.provisional, events
    return record, labels.provisional[0], events


def test_labels_confirm_a_candidate_that_is_as_good(shop, tmp_path):
    record, provisional, events = released(shop, tmp_path, "good")
    assert record["verdict"] == "promoted", record["reason"]
    assert record["reason"].startswith("the labels confirm it.") and "loss: E" in record["reason"]
    weights = {p["name"]: p["traffic"] for p in provisional["spec"]["predictors"]}
    assert weights == {"vgood-1": 20, "vgood-2": 80, "vgood-2-shadow": 100}  # the old champion stays warm
    obj = ObjectStore(tmp_path / "objects").read(provisional["metadata"]["name"])
    assert [p["name"] for p in obj["spec"]["predictors"]] == ["vgood-2"]
    assert record["traffic"]["failed"] == 0 and "alias of good-2" in events
    last = {row["guardrail"]: row for row in record["evidence"]}
    assert last["loss"]["n"] > 30 and last["loss"]["mean"] == pytest.approx(0.0, abs=1e-6)
    assert any("of another key (first in forger.jsonl)" in text for text in events)


def test_labels_roll_back_a_candidate_whose_scores_are_worse_though_it_decides_alike(shop, tmp_path):
    """Above the same amount it decides the same; but it says 0.45 where the champion says 0.00."""
    record, provisional, events = released(shop, tmp_path, "worse", bias=-0.22, weight=0.001)
    assert record["verdict"] == "rolled back", record["reason"]
    assert record["reason"].startswith("loss is worse:"), record["reason"]
    obj = ObjectStore(tmp_path / "objects").read(provisional["metadata"]["name"])
    assert {p["name"]: p["traffic"] for p in obj["spec"]["predictors"]} == {"vworse-1": 100}
    assert record["traffic"]["failed"] == 0 and "no alias for worse-2" in events
    last = {row["guardrail"]: row for row in record["evidence"]}
    assert last["flips"]["mean"] == 0.0 and last["loss"]["mean"] > 0.05
