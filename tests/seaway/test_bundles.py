import shutil

import pytest

from seaway import bundles
from seaway.config import load
from seaway.errors import SeawayError
from seaway.signing import Seal
from seaway.storage import Storage


@pytest.fixture
def config(tmp_path):
    return load(overrides={"home": str(tmp_path / "home"), "storage": {"uri": (tmp_path / "store").as_uri()}})


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"model")
    return folder


def test_a_bundle_is_published_and_fetched_once(config, bundle, monkeypatch):
    digest = Seal(config).sign(bundle)
    uri = bundles.publish(config, bundle, digest)
    assert uri == f"{config.storage.uri}/bundles/{digest}"
    copy = bundles.local_copy(config, uri)
    assert copy == config.home / "bundles" / digest
    assert (copy / "model.onnx").read_bytes() == b"model"
    monkeypatch.setattr(Storage, "publish", None)
    assert bundles.publish(config, bundle, digest) == uri  # it is there, whole
    monkeypatch.setattr(Storage, "fetch", None)
    assert bundles.local_copy(config, uri, digest) == copy  # it is here


def test_another_signature_of_the_same_files_is_the_same_bundle(config, bundle):
    digest = Seal(config).sign(bundle)
    uri = bundles.publish(config, bundle, digest)
    assert Seal(config).sign(bundle) == digest
    assert bundles.publish(config, bundle, digest) == uri


def test_a_spoilt_copy_is_fetched_anew(config, bundle):
    digest = Seal(config).sign(bundle)
    uri = bundles.publish(config, bundle, digest)
    copy = bundles.local_copy(config, uri)
    (copy / "model.onnx").write_bytes(b"other")
    assert (bundles.local_copy(config, uri) / "model.onnx").read_bytes() == b"model"


def test_a_bundle_that_is_not_trusted_never_lies_at_its_place(config, bundle, tmp_path):
    digest = Seal(config).sign(bundle)
    uri = bundles.publish(config, bundle, digest)
    other = config.model_copy(update={"home": tmp_path / "other"})  # with a key of its own
    with pytest.raises(SeawayError, match=f"bundles/{digest}"):
        bundles.local_copy(other, uri)
    assert not (other.home / "bundles" / digest).exists()


def test_a_bundle_under_another_ones_digest_is_refused(config, bundle, tmp_path):
    digest = Seal(config).sign(bundle)
    bundles.publish(config, bundle, digest)
    forged = Storage.of(config).join("bundles", "0" * 64)
    Storage.of(config).publish(bundle, forged)
    with pytest.raises(SeawayError, match="not the bundle that was registered"):
        bundles.local_copy(config, forged)
    assert not (config.home / "bundles" / ("0" * 64)).exists()


def test_an_unsigned_or_missing_bundle_is_refused(config, bundle):
    store = Storage.of(config)
    store.publish(bundle, store.join("unsigned"))
    with pytest.raises(SeawayError, match="no signature"):
        bundles.local_copy(config, store.join("unsigned"))
    with pytest.raises(SeawayError, match="no published folder"):
        bundles.local_copy(config, store.join("bundles", "0" * 64))


def test_a_local_bundle_is_itself(config, bundle):
    assert bundles.local_copy(config, str(bundle)) == bundle
    digest = Seal(config).sign(bundle)
    assert bundles.local_copy(config, str(bundle), digest) == bundle
    with pytest.raises(SeawayError, match="not the bundle"):
        bundles.local_copy(config, str(bundle), "0" * 64)
    shutil.rmtree(bundle)
    with pytest.raises(SeawayError, match="not a folder"):
        bundles.local_copy(config, str(bundle), digest)


def test_without_storage_a_bundle_stays_where_it_is(config, bundle):
    plain = load(overrides={"home": str(config.home)})
    assert bundles.publish(plain, bundle, "0" * 64) == str(bundle)
