"""Batch scoring: the command, and what it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "seaway"))
from conftest import make_config
from score_world import champion, one_by_one, registered, run, table, write_days

from components.score.model import load
from components.score.step import score
from seaway.errors import SeawayError
from seaway.features import HASH_KEY


@pytest.fixture(scope="module")
def world(tmp_path_factory, toy_hooks):
    """(config, spec): a home whose champion is version 1, and version 2 beside it."""
    folder = tmp_path_factory.mktemp("scoring")
    config, spec = make_config(folder, toy_hooks)
    champion(config, spec, folder, seed=0)
    registered(config, spec, folder, seed=1)
    return config, spec


def test_the_command(world, tmp_path, capsys):
    from seaway.cli import main

    config, _ = world
    data = write_days(table(days=5), tmp_path / "data")
    common = ["score", "--workload", str(config.workload_file), "--home", str(config.home), "--data", str(data)]
    common += ["--out", str(tmp_path / "out"), "--set", "scoring.workers=1"]
    assert main([*common, "--from", "2024-01-02", "--to", "2024-01-03", "--explain"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("version 1: ") and " rows in 2 partitions, " in told.out
    assert "score: version 1, 2 partitions into" in told.err
    assert sorted(p.stem for p in (tmp_path / "out" / "scores").iterdir()) == ["2024-01-02", "2024-01-03"]
    assert "reasons" in pl.read_parquet_schema(tmp_path / "out" / "scores" / "2024-01-02.parquet")
    assert main([*common, "--version", "2", "--json", "--log"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["version"], summary["scored"]) == ("2", 5)
    assert len(list((tmp_path / "out" / "log").iterdir())) == 5
    assert main([*common, "--version", "9"]) == 2
    assert "no version '9'" in capsys.readouterr().err
    assert main([*common, "--to", "yesterday"]) == 2
    assert "--to 'yesterday' is no day: write it as 2018-04-01" in capsys.readouterr().err


def test_features_of_other_definitions_are_refused(world, tmp_path, toy_hooks):
    config, spec = world
    table().write_parquet(tmp_path / "other.parquet", metadata={HASH_KEY: "f" * 64})
    with pytest.raises(SeawayError, match=f"of hash ffffffffffff..., the version was trained on {spec.hash[:12]}"):
        run(config, tmp_path / "other.parquet", tmp_path / "out")
    changed = type(spec)(**{**spec.__dict__, "version": "toy_v2"})
    with pytest.raises(SeawayError, match="version 1 was trained on features of hash"):
        score(one_by_one(config), changed, tmp_path, tmp_path / "out")


def test_without_a_champion_it_says_what_to_do(tmp_path, toy_hooks):
    config, _ = make_config(tmp_path, toy_hooks)
    with pytest.raises(SeawayError, match=r"there is no champion of toy yet: .* --version N"):
        load(config)
    with pytest.raises(SeawayError, match="no version '7'"):
        load(config, "7")


def test_a_bundle_that_was_changed_does_not_score(tmp_path, toy_hooks):
    config, spec = make_config(tmp_path, toy_hooks)
    version = champion(config, spec, tmp_path)
    with (Path(version.bundle) / "model.onnx").open("ab") as stream:
        stream.write(b" ")
    with pytest.raises(SeawayError, match="was changed after it was signed"):
        load(config)


@pytest.mark.parametrize(("name", "what"), [("nothing.parquet", "does not exist"), ("empty", "holds no Parquet file")])
def test_nothing_to_score_is_said(world, tmp_path, name, what):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SeawayError, match=what):
        run(world[0], tmp_path / name, tmp_path / "out")


def test_a_place_that_cannot_be_written_is_named(world, tmp_path):
    config, _ = world
    data = write_days(table(), tmp_path / "data")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SeawayError, match=rf"{tmp_path}/file/\S+ cannot be written: .* or give another --out"):
        run(config, data, tmp_path / "file")
