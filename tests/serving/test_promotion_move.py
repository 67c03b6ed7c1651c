"""What a promotion writes before its canary, without the canary: real registries, storage and ledgers."""

import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from seaway import ledger
from seaway.artifacts import write_json
from seaway.bundles import local_copy
from seaway.config import load
from seaway.errors import SeawayError
from seaway.hooks import resolve
from seaway.registry import RELEASED, SIGNED, Registry
from serving.promotion import move
from serving.promotion.move import carry_out, prepare
from tests.serving.conftest import Bundles
from tests.serving.promoted import promoted


@pytest.fixture
def world(tmp_path, monkeypatch):
    """(source, target, add): as in test_promotion.py; a release ends at once, and its request is the record."""

    def environment(env):
        folder, keys = tmp_path / env, tmp_path / "keys"
        trust = {"private_key": str(keys / "private.pem"), "public_key": str(keys / "public.pem")}
        common = {"tracking_uri": None, "online_store": {"type": "sqlite"}, "pipeline": {"host": None}}
        more = {"home": str(folder), "trust": trust, "serving": {"substrate": "local"}}
        return load(env, overrides={**common, **more, "storage": {"uri": (folder / "objects").as_uri()}})

    new_keys(tmp_path)
    monkeypatch.setattr(move, "run_release", lambda config, request, **rest: request)
    source, target = environment("staging"), environment("prod")
    spec = resolve(source.workload.features, source.root)
    write_json(source.home / "runs" / "r1" / "run.json", {"run": "r1", "outputs": {}})
    return source, target, lambda name, bias: promoted(source, tmp_path / "made", spec, name, bias)


def new_keys(folder):
    """Keys in ``folder``/keys, in place of those that are there."""
    shutil.rmtree(folder / "keys", ignore_errors=True)
    shutil.rmtree(folder / "fresh", ignore_errors=True)
    trust = Bundles(folder / "fresh", {}).trust
    (folder / "keys").mkdir()
    shutil.copy2(trust["private_key"], folder / "keys" / "private.pem")
    shutil.copy2(trust["public_key"], folder / "keys" / "public.pem")


def test_after_a_change_of_keys_the_same_model_moves_again(world, tmp_path):
    source, target, add = world
    add("one", -22.0)
    carry_out(prepare(source, target))
    new_keys(tmp_path)
    with pytest.raises(SeawayError):
        prepare(source, target)
    version = add("one", -22.0)
    assert version.version == "1", "the same model"
    carry_out(prepare(source, target))
    moved = Registry.of(target).get("1")
    assert local_copy(target, moved.bundle, version.tags[SIGNED])


def moves(config):
    return [line["entry"] for line in ledger.read(config.home / "ledger.jsonl")]


def test_each_move_has_its_line_and_one_that_goes_on_none_of_its_own(world):
    source, target, add = world
    one, two = add("one", -22.0), add("two", -22.5)
    for version in (one, two, one, two):
        for _ in range(2):  # killed before its verdict, and run again
            record = carry_out(prepare(source, target, version=version.version))
        Registry.of(target).promote(record["version"], release=version.tags[RELEASED])
    for config in (source, target):
        met = [(entry["version"], entry["champion"]) for entry in moves(config)]
        assert met == [("1", None), ("2", "1"), ("1", "2"), ("2", "1")]


def test_of_two_promotions_at_once_one_writes_the_line(world, monkeypatch):
    source, target, add = world
    add("one", -22.0)
    ready, append = prepare(source, target), ledger.append
    version = Registry.of(source).get("1")

    def late(path, entry):
        time.sleep(0.3)
        return append(path, entry)

    monkeypatch.setattr(ledger, "append", late)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: move._note(target, ready, version, "shop-1"), range(2)))
    assert len(moves(target)) == 1
