"""Serving outside of a release: a home is served again and again, and a text is asked for as it is written."""

from __future__ import annotations

import pytest

from seaway.config import load
from serving import manifests, serve
from serving.substrate.base import Conflict
from serving.substrate.store import ObjectStore


def deployment(version: str) -> dict:
    served = manifests.Predictor(
        name=f"v{version}",
        traffic=100,
        bundle=f"/bundles/{version}",
        online_store={"type": "sqlite", "path": "/online.db"},
        project="toy",
        version=version,
    )
    return manifests.seldon_deployment("toy", "default", [served], image="serve:1")


def test_a_home_that_was_served_before_is_served_again(tmp_path):
    store = ObjectStore(tmp_path)
    for version in "112":
        serve._put(store, deployment(version))
        assert list(manifests.predictors(store.read("toy"))) == [f"v{version}"]
    with pytest.raises(Conflict):
        store.create(deployment("3"))


def test_a_text_is_sent_as_it_is_written_and_a_number_as_a_number(tmp_path, monkeypatch):
    sent = []

    def post(url, body):
        sent.append(body["data"])
        return {"data": {"names": ["probability"], "ndarray": [[0.5]]}, "meta": {"tags": {}}}

    config = load(overrides={"home": str(tmp_path)})
    source = config.workload.source
    first, second, *_ = names = config.workload.sources[source].columns
    kinds = {"workload": {"sources": {source: {"columns": {first: {"type": "str"}, second: {"type": "float"}}}}}}
    config = load(overrides={"home": str(tmp_path), **kinds})
    monkeypatch.setattr(serve, "_post", post)
    monkeypatch.setattr(serve, "resolve", lambda hook, root: type("Spec", (), {"inputs": (first, second)}))
    for text in ("007", "nan", "south"):
        serve.ask(config, {first: text, second: "07.50"}, url="http://127.0.0.1:1")
    assert len(names) > 1 and [row["ndarray"] for row in sent] == [[["007", 7.5]], [["nan", 7.5]], [["south", 7.5]]]
