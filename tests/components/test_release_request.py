"""The release request: what it names, and what it refuses."""

import pytest

from components.release.step import build, request
from seaway.artifacts import read_json, write_json
from seaway.config import load
from seaway.errors import SeawayError

CHAMPION = {
    "name": "m",
    "version": "1",
    "run_id": "q",
    "bundle": "/b/1",
    "tags": {"kind": "baseline"},
    "image": "serve:0",
}
VERSION = {
    "name": "m",
    "version": "2",
    "run_id": "r",
    "bundle": "/b/2",
    "tags": {},
    "alias": "candidate",
    "verdict": {"verdict": "pass", "reasons": []},
    "champion": CHAMPION,
    "lineage": {"git_revision": "abc"},
    "release": "d" * 64,
    "image": "serve:1",
}


def test_it_names_candidate_champion_bundle_and_verdict(tmp_path):
    write_json(tmp_path / "version" / "version.json", VERSION)
    summary = request(load(), tmp_path / "version", tmp_path / "out")
    made = read_json(tmp_path / "out" / "release.json")
    assert summary == {"name": "card-fraud-2", "candidate": "2", "champion": "1"}
    assert (made["name"], made["version"], made["bundle"]) == ("card-fraud-2", "2", "/b/2")
    assert made["candidate"]["lineage"] == {"git_revision": "abc"}
    assert (made["candidate"]["release"], made["candidate"]["image"]) == ("d" * 64, "serve:1")
    known = {"name": "m", "version": "1", "run_id": "q", "bundle": "/b/1"}
    assert made["champion"] == known | {"kind": "baseline", "image": "serve:0"}
    assert made["verdict"]["verdict"] == "pass"


def test_the_first_version_has_no_champion():
    assert build("w", {**VERSION, "champion": None})["champion"] is None


@pytest.mark.parametrize("verdict", ["fail", "not enough data"])
def test_any_other_verdict_is_refused_with_its_reasons_and_nothing_is_written(tmp_path, verdict):
    refused = {**VERSION, "verdict": {"verdict": verdict, "reasons": ["auc_roc 0.6 is below 0.75"]}}
    write_json(tmp_path / "version.json", refused)
    with pytest.raises(SeawayError, match=f"version 2 of m .*{verdict}.*auc_roc 0.6 is below 0.75"):
        request(load(), tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
