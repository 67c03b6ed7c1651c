"""A server of a bundle with slices: each row to its slice's model, the rest to the global one."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from seaway.artifacts import write_json
from serving.model_server import ModelServer
from serving.wire import Refused

AT = "2024-05-04T10:00:00"


@pytest.fixture
def sliced(bundles):
    """The global model gives sigmoid(-1), slice 7 sigmoid(3) at a threshold of 0.99."""
    own, whole = Path(bundles.make("slice-7", bias=3.0, weight=0.0)), Path(bundles.make("sliced", weight=0.0))
    (whole / "slices" / "000").mkdir(parents=True, exist_ok=True)
    for name in ("model.onnx", "model.json"):
        shutil.copy(own / name, whole / "slices" / "000" / name)
    write_json(
        whole / "slices.json", {"by": "person", "kept": {"7": {"folder": "slices/000", "threshold": 0.99}}, "left": {}}
    )
    return bundles.sign(whole)


def served(bundles, bundle, **more):
    from prometheus_client import CollectorRegistry

    server = ModelServer(bundle, json.dumps(bundles.store), "seaway", **bundles.trusted(bundle), **more)
    server.load(CollectorRegistry())
    return server


def test_rows_of_several_slices_in_one_request_each_get_their_model(bundles, sliced, ask, tmp_path):
    server = served(bundles, sliced, log=str(tmp_path))
    answer = server.predict_raw(ask((7, 1.0, AT), (8, 1.0, AT), (7, 2.0, AT), explain=True))
    assert answer["meta"]["tags"]["slice"] == ["7", "global", "7"]
    scores, decisions = zip(*answer["data"]["ndarray"], strict=True)
    assert scores == pytest.approx([0.952574, 0.268941, 0.952574], abs=1e-5)
    assert decisions == (0, 0, 0)  # by the slice's own threshold of 0.99
    server._answers.add("request", list(scores), list(decisions), answer["meta"]["tags"]["slice"])
    server._answers.close()
    lines = [json.loads(line) for file in tmp_path.rglob("*.jsonl") for line in file.read_text().splitlines()]
    assert {"7", "global"} == {line["s"] for line in lines}


@pytest.mark.parametrize("routed", [False, True])
def test_an_input_of_which_no_feature_is_made_may_be_a_text_or_empty(bundles, tmp_path, routed):
    """By a version without slices as by one with them: a first release compares the second with the first."""
    spec = replace(bundles.spec, inputs=(*bundles.spec.inputs, "region"))
    assert spec.unread == {"region"}
    regional = replace(bundles, folder=tmp_path, spec=spec)
    bundle = Path(regional.make("regional", weight=0.0))
    if routed:
        own = Path(regional.make("south", bias=3.0, weight=0.0))
        (bundle / "slices" / "000").mkdir(parents=True)
        for name in ("model.onnx", "model.json"):
            shutil.copy(own / name, bundle / "slices" / "000" / name)
        kept = {"south": {"folder": "slices/000", "threshold": 0.5}}
        write_json(bundle / "slices.json", {"by": "region", "kept": kept, "left": {}})
        regional.sign(bundle)
    rows = [[7, 1.0, AT, value] for value in ("south", "nowhere", None, 3)]
    message = {"data": {"names": list(spec.inputs), "ndarray": rows}}
    answer = served(regional, str(bundle)).predict_raw(message)
    wanted = [0.952574 if routed else 0.268941, 0.268941, 0.268941, 0.268941]
    assert [score for score, _ in answer["data"]["ndarray"]] == pytest.approx(wanted, abs=1e-5)
    if routed:
        assert answer["meta"]["tags"]["slice"] == ["south", "global", "global", "global"]
    with pytest.raises(Refused, match="'amount' is missing"):
        served(regional, str(bundle)).predict_raw({"data": {"names": list(spec.inputs), "ndarray": [[7, None, AT, 1]]}})


def test_a_slice_whose_model_was_changed_after_signing_is_not_served(bundles, sliced):
    with (Path(sliced) / "slices" / "000" / "model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(RuntimeError, match="cannot be served"):
        served(bundles, sliced)
