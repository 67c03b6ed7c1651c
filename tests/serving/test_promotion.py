"""A release moves between two environments of one machine: real registries, storage, servers and proxy."""

import subprocess
import sys
from pathlib import Path

import pytest

from seaway import ledger
from seaway.artifacts import content_hash, write_json
from seaway.bundles import local_copy
from seaway.config import load, project_root
from seaway.errors import SeawayError
from seaway.keys import ensure_keys
from seaway.registry import CHAMPION, IMAGE, RELEASED, SIGNED, Registry
from seaway.release_bundle import store_of
from serving.promotion.move import MOVED, carry_out, prepare
from serving.rollout import commands
from tests.serving.conftest import Bundles
from tests.serving.promoted import promoted
from tests.serving.test_release import OVERRIDES

SERVE = "registry.example.com/seaway/serve@sha256:" + "5" * 64


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """(source, target, add): two environments that trust one key; ``add(bias)`` promotes a model in the source."""
    from components.dataset.step import dataset
    from components.features.step import features
    from components.ingest.step import ingest
    from components.validate.step import validate
    from seaway.hooks import resolve

    home = tmp_path_factory.mktemp("staging")
    trust = Bundles(home, {}).trust
    local = {"substrate": "local", "image": SERVE}
    patient = {**OVERRIDES["release"], "cap": "240s"}  # a busy machine answers late
    common = {
        **OVERRIDES,
        "release": patient,
        "trust": trust,
        "online_store": {"type": "sqlite"},
        "pipeline": {"host": None},
    }

    def environment(env, folder):
        more = {"home": str(folder), "storage": {"uri": (folder / "objects").as_uri()}, "serving": local}
        return load(env, overrides={**common, **more, "tracking_uri": None})

    source = environment("staging", home)
    target = environment("prod", tmp_path_factory.mktemp("prod"))
    spec = resolve(source.workload.features, source.root)
    ingest(source.workload, source.root, "release", home / "raw")
    validate(source.workload, home / "raw", home / "valid", home / "quarantine.parquet")
    features(source.workload, spec, home / "valid", home / "features")
    dataset(source, spec, home / "features", home / "dataset")
    outputs = {"dataset": str(home / "dataset"), "features": str(home / "features")}
    write_json(home / "runs" / "r1" / "run.json", {"run": "r1", "status": "passed", "outputs": outputs})
    return source, target, lambda name, bias: promoted(source, home / "made", spec, name, bias)


def test_it_moves_bit_for_bit_and_the_second_one_has_to_prove_itself(world):
    source, target, add = world
    first = add("one", -22.0)
    told = []
    record = carry_out(prepare(source, target), on_event=told.append)
    assert record["verdict"] == "promoted", record["reason"]
    moved = Registry.of(target).get(CHAMPION)
    assert moved.tags[SIGNED] == first.tags[SIGNED] != ""
    assert moved.tags[RELEASED] == first.tags[RELEASED]
    assert moved.tags[IMAGE] == SERVE
    assert content_hash(local_copy(target, moved.bundle)) == content_hash(local_copy(source, first.bundle))

    second = add("two", -22.5)
    ready = prepare(source, target)
    assert ready.champion.version == moved.version and not ready.there
    record = carry_out(ready, on_event=told.append)
    assert record["verdict"] == "promoted", record["reason"]
    assert record["evidence"], "a second release is compared with the champion"
    assert Registry.of(target).get(CHAMPION).tags[SIGNED] == second.tags[SIGNED]
    assert prepare(source, target).there
    for home in (source.home, target.home):
        assert ledger.verify(home / "ledger.jsonl")["entries"]
        lines = [line["entry"] for line in ledger.read(home / "ledger.jsonl")]
        moves = [entry for entry in lines if entry["what"] == MOVED]
        assert [entry["bundle"] for entry in moves] == [first.tags[RELEASED], second.tags[RELEASED]]
    assert any("promoted" in line for line in commands.explain(target))
    entries = ledger.verify(target.home / "ledger.jsonl")["entries"]
    assert carry_out(prepare(source, target))["reason"] == "it is the champion of prod already"
    assert ledger.verify(target.home / "ledger.jsonl")["entries"] == entries, "what was decided is not decided again"


def test_what_was_not_promoted_there_stays_there(world):
    source, target, add = world
    version = add("three", -22.2)
    Registry.of(source).promote(version.version)  # as without a release bundle
    with pytest.raises(SeawayError, match="was not promoted with a release bundle in staging"):
        prepare(source, target)
    with pytest.raises(SeawayError, match="a name and a home of their own"):
        prepare(source, source)


def test_a_target_that_trusts_another_key_is_told_and_gets_nothing(world, tmp_path):
    source, _, add = world
    add("four", -22.1)
    other = load("prod", overrides={"home": str(tmp_path), "serving": {"substrate": "local"}, "tracking_uri": None,
                                    "online_store": {"type": "sqlite"}, "storage": {"uri": None}})  # fmt: skip
    ensure_keys(other)
    ready = prepare(source, other)
    assert any("trust.public_key of config/prod.yaml" in text for text in ready.lacking)
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    with pytest.raises(SeawayError, match="prod cannot take"):
        carry_out(ready)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before


def test_a_model_that_was_changed_in_the_source_does_not_move(world):
    source, target, add = world
    version = add("five", -22.3)
    store, model = store_of(source), f"{version.bundle}/model.onnx"
    store.write(model, store.read(model) + b"x")
    with pytest.raises(SeawayError, match="not the file that was published"):
        prepare(source, target)


def test_the_command_shows_what_would_move_and_writes_nothing(world):
    source, target, add = world
    add("six", -22.4)
    command = [str(Path(sys.executable).parent / "seaway"), "promote", "--from", "staging", "--to", "prod", "--dry-run"]
    for name, config in (("from", source), ("to", target)):
        keys = {
            "home": config.home, "tracking_uri": "null", "storage.uri": config.storage.uri,
            "online_store.type": "sqlite", "serving.substrate": "local", "trust.public_key": config.trust.public_key,
            "trust.private_key": config.trust.private_key,
        }  # fmt: skip
        command += [part for key, value in keys.items() for part in (f"--set-{name}", f"{key}={value}")]
    ended = subprocess.run(command, cwd=project_root(), capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "prod has all that it needs" in ended.stdout
    assert SERVE in ended.stdout
    asked = subprocess.run(
        [part for part in command if part != "--dry-run"],
        cwd=project_root(), capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert asked.returncode == 2 and "--yes" in asked.stderr
