"""Lineage: every part of the record follows from what it names."""

import subprocess

import pytest

from seaway.config import load
from seaway.hooks import resolve
from seaway.lineage import collect, git
from seaway.model_card import model_card


def command(root, *arguments):
    subprocess.run(["git", "-C", str(root), "-c", "user.name=t", "-c", "user.email=t@t", *arguments], check=True)


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tree"
    root.mkdir()
    (root / "uv.lock").write_text("lock")
    command(root, "init", "-q")
    command(root, "add", ".")
    command(root, "commit", "-qm", "one")
    return root


def lineage(config, root):
    spec = resolve(config.workload.features, config.root)
    return collect(config, spec, run="r1", data="d", dataset="s", model="m", root=root)


def test_git_tells_revision_and_whether_the_tree_is_dirty(tree):
    clean = git(tree)
    assert len(clean["revision"]) == 40
    assert clean["dirty"] is False
    (tree / "new.py").write_text("x")
    assert git(tree) == {"revision": clean["revision"], "dirty": True}


def test_without_git_the_record_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git(tmp_path) == {"revision": "", "dirty": None}


def test_the_config_hash_follows_settings_and_not_places(tree, tmp_path):
    first = lineage(load(overrides={"home": str(tmp_path / "a")}), tree)
    assert first == lineage(load(overrides={"home": str(tmp_path / "b")}), tree)
    other = lineage(load(overrides={"scale": "tiny"}), tree)
    assert [k for k in first if first[k] != other[k]] == ["config_hash"]


def test_the_lock_hash_follows_the_lock_file(tree):
    before = lineage(load(), tree)
    (tree / "uv.lock").write_text("other")
    after = lineage(load(), tree)
    assert [k for k in before if before[k] != after[k]] == ["git_dirty", "lock_hash"]
    (tree / "uv.lock").unlink()
    assert lineage(load(), tree)["lock_hash"] == ""


def test_the_model_card_shows_metrics_with_intervals_thin_segments_and_lineage():
    text = model_card(
        "m",
        "3",
        model={
            "workload": "w",
            "kind": "torch",
            "params": {"layers": 2},
            "threshold": 0.4,
            "onnx_max_difference": 1.2e-7,
            "reasons": {"x": "the x"},
            "features": {"version": "v1", "inputs": ["key"]},
        },
        metrics={"candidate": {"auc_roc": {"value": 0.9, "low": 0.8, "high": 0.95}}, "baseline": None},
        verdict={"verdict": "fail", "reasons": ["too low"]},
        segments=[{"segment": "band", "group": "0|1", "rows": 3, "positives": 1, "candidate": 0.5, "enough": False}],
        lineage={"git_revision": "abc", "data_hash": "d1"},
    )
    for part in ("# m, version 3", "0.9 [0.8, 0.95]", "**fail**", "- too low", "band 0", "abc", "1.2e-07", "the x"):
        assert part in text
