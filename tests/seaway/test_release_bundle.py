"""A release bundle is good where it verifies, not where something of its name lies."""

import shutil

import pytest

from seaway import release_bundle
from seaway.config import load
from seaway.errors import SeawayError
from seaway.keys import public_key
from seaway.registry import SIGNED
from seaway.registry_file import Version
from seaway.release_bundle import store_of
from seaway.storage import Storage

LINEAGE = {"run": "r1", "model_hash": "m", "feature_hash": "f", "config_hash": "c"}
VERSION = Version("shop", "1", "run", "/bundle", {SIGNED: "a" * 64})


@pytest.fixture
def config(tmp_path):
    return load(overrides={"home": str(tmp_path / "home")})


def new_keys(config):
    shutil.rmtree(config.home / "keys")


def test_the_same_release_is_signed_anew_after_a_change_of_keys(config):
    digest = release_bundle.make(config, VERSION, LINEAGE)
    new_keys(config)
    with pytest.raises(SeawayError):
        release_bundle.read(store_of(config), digest, public_key(config))
    assert release_bundle.make(config, VERSION, LINEAGE) == digest
    assert release_bundle.read(store_of(config), digest, public_key(config)).record["model"]["version"] == "1"


def test_a_copy_replaces_one_that_is_signed_with_the_key_from_before(config, tmp_path):
    source, target = store_of(config), Storage((tmp_path / "target").as_uri())
    digest = release_bundle.make(config, VERSION, LINEAGE)
    release_bundle.copy(source, target, digest, public_key(config))
    new_keys(config)
    with pytest.raises(SeawayError):
        release_bundle.copy(source, target, digest, public_key(config))
    release_bundle.make(config, VERSION, LINEAGE)
    release_bundle.copy(source, target, digest, public_key(config))
    assert release_bundle.read(target, digest, public_key(config)).digest == digest


def test_a_copy_that_is_not_whole_is_replaced(config, tmp_path):
    source, target = store_of(config), Storage((tmp_path / "target").as_uri())
    digest = release_bundle.make(config, VERSION, LINEAGE)
    release_bundle.copy(source, target, digest, public_key(config))
    target.write(f"{release_bundle.place(target, digest)}/release.json", b"{}")
    release_bundle.copy(source, target, digest, public_key(config))
