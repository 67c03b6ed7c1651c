"""What a server does with many slices: reasons, faults, memory of one arena, and the parity check after a release."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from seaway import scorer
from seaway.artifacts import write_json
from seaway.config import load
from seaway.slices import Slices
from serving import smoke
from serving.faults import FaultyModelServer
from serving.model_server import ModelServer

AT = "2024-05-04T10:00:00"
BIASES = {"7": 3.0, "8": -3.0}
SEED = 1  # its mix-up puts a count where the amount was


@pytest.fixture
def sliced(bundles):
    """sigmoid(b + 0.1 * amount_now): b is -1 globally, and another for persons 7 and 8, with their own baselines."""
    whole = Path(bundles.make("sliced-2"))
    for number, (name, bias) in enumerate(BIASES.items()):
        own = Path(bundles.make(f"own-{name}", bias=bias, background=[[float(name)] * 7] * 2))
        folder = whole / "slices" / f"{number:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        for file in ("model.onnx", "model.json"):
            shutil.copy(own / file, folder / file)
    kept = {name: {"folder": f"slices/{i:03d}", "threshold": 0.5} for i, name in enumerate(BIASES)}
    write_json(whole / "slices.json", {"by": "person", "kept": kept, "left": {}})
    return bundles.sign(whole)


def served(bundles, bundle, kind=ModelServer, **more):
    from prometheus_client import CollectorRegistry

    server = kind(bundle, json.dumps(bundles.store), "seaway", **bundles.trusted(bundle), **more)
    server.load(CollectorRegistry())
    return server


def test_reasons_are_of_the_model_and_the_baseline_of_the_rows_slice(bundles, sliced, ask):
    server = served(bundles, sliced)
    rows = [(7, 27.0, AT), (8, 28.0, AT), (9, 29.0, AT)]
    answer = server.predict_raw(ask(*rows, explain=True))
    for (person, amount, _), (score, _), codes in zip(
        rows, answer["data"]["ndarray"], answer["meta"]["tags"]["reasons"], strict=True
    ):
        bias, baseline = BIASES.get(str(person), -1.0), person if str(person) in BIASES else 0.0
        expected = 1 / (1 + np.exp(-(bias + 0.1 * baseline)))
        assert score == pytest.approx(1 / (1 + np.exp(-(bias + 0.1 * amount))), abs=1e-6)
        assert sum(code["contribution"] for code in codes) == pytest.approx(score - expected, abs=1e-6)


def test_a_harmed_server_harms_the_slices_too(bundles, sliced, ask):
    amounts = [(7, 9.0, AT), (9, 9.0, AT)]
    good = served(bundles, sliced).predict_raw(ask(*amounts))["data"]["ndarray"]
    bad = served(bundles, sliced, FaultyModelServer, shuffle_features=True, seed=SEED).predict_raw(ask(*amounts))
    assert bad["meta"]["tags"]["slice"] == ["7", "global"]
    for right, wrong in zip(good, bad["data"]["ndarray"], strict=True):
        assert wrong[0] != pytest.approx(right[0], abs=1e-3)


def test_files_are_read_once_however_often_they_are_asked_for(bundles, sliced, ask):
    seen = []

    def read(name):
        seen.append(name)
        return (Path(sliced) / name).read_bytes()

    slices = Slices(read, len(bundles.spec.names))
    slices.check()
    for _ in range(3):
        slices.score("7", np.zeros((2, 7), np.float32))
        slices.background("7")
    assert sorted(seen) == ["slices.json", "slices/000/model.json", "slices/000/model.onnx", "slices/001/model.onnx"]


def test_sessions_that_share_an_arena_score_as_one_alone_from_many_threads(bundles, sliced):
    slices = Slices(lambda name: (Path(sliced) / name).read_bytes(), 7)
    rows = np.random.default_rng(0).normal(size=(300, 7)).astype(np.float32)
    wanted = {
        name: scorer.scores(scorer.session((Path(sliced) / f"slices/{i:03d}/model.onnx").read_bytes(), 7), rows)
        for i, name in enumerate(BIASES)
    }
    wrong = []

    def work(name):
        for size in range(1, 300, 7):
            if slices.score(name, rows[:size]).tobytes() != wanted[name][:size].tobytes():
                wrong.append((name, size))

    threads = [threading.Thread(target=work, args=(name,)) for name in [*BIASES] * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_rows_in_any_order_get_their_own_scores_in_their_places(sliced):
    slices = Slices(lambda name: (Path(sliced) / name).read_bytes(), 7)
    draw = np.random.default_rng(1)
    rows, names = draw.normal(size=(200, 7)).astype(np.float32), draw.choice(["7", "8", ""], 200).tolist()
    other = lambda some: some[:, 0] * 0 + np.float32(0.25)  # noqa: E731
    single = np.array(
        [slices.score(n, r[None])[0] if n else 0.25 for n, r in zip(names, rows, strict=True)], np.float32
    )
    assert slices.scores(names, rows, other).tobytes() == single.tobytes()
    assert slices.over(names, rows, other(rows)).tobytes() == single.tobytes()
    assert slices.scores([], rows[:0], other).shape == (0,)


def test_after_a_release_served_scores_are_compared_with_those_of_the_slices(
    bundles, sliced, ask, tmp_path, monkeypatch
):
    """The replayed rows, as the server answered them, against the bundle: equal, and not by the global model."""
    from components.evaluate.bundle import Bundle

    server = served(bundles, sliced)
    people, amounts = [7, 8, 9, 7], [10.0, 20.0, 30.0, 40.0]
    answers = [server.predict_raw(ask((p, a, AT), features=True)) for p, a in zip(people, amounts, strict=True)]
    features = [a["meta"]["tags"]["features"][0] for a in answers]
    table = {n: pl.Series([f[i] for f in features], dtype=pl.Float32) for i, n in enumerate(bundles.spec.names)}
    times = pl.Series(range(4)).cast(pl.Datetime("us"))
    pl.DataFrame({"event_timestamp": times, "person": people, **table}).write_parquet(tmp_path / "replay.parquet")
    scores = [a["data"]["ndarray"][0][0] for a in answers]
    log = {"row": range(4), "status": [200] * 4, "version": ["1"] * 4, "id": list("abcd")}
    pl.DataFrame({**log, "features": features, "probability": scores}).write_parquet(tmp_path / "log.parquet")
    monkeypatch.setattr(smoke, "resolve", lambda hook, root: bundles.spec)
    monkeypatch.setattr(smoke, "local_copy", lambda config, bundle, digest: Path(bundle))
    monkeypatch.setattr(smoke, "public_key", lambda config: Path(bundles.trust["public_key"]))
    named = {"bundle": sliced, "digest": bundles.trusted(sliced)["digest"]}
    monkeypatch.setattr(smoke.manifests, "predictors", lambda obj: {"a": named})
    monkeypatch.setattr(smoke.manifests, "parameters", lambda predictor: predictor)
    plan = SimpleNamespace(predictors={"1": "a"}, obj={})
    config = load(overrides={"home": str(tmp_path)})
    found = smoke.parity(config, plan, tmp_path, tmp_path / "log.parquet")
    assert (found["checked"], found["feature_differences"]) == (4, 0)
    assert found["max_score_difference"] < 1e-6
    alone = Bundle(Path(sliced)).score(np.array(features, dtype=np.float32))
    assert np.abs(alone - scores).max() > 0.3
