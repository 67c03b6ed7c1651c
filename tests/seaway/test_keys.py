"""The keys that sign bundles: made once, for their owner alone; one that cannot be used is named, never shown."""

import os
import shutil
import stat
import subprocess
import sys
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from seaway.config import load
from seaway.errors import SeawayError
from seaway.keys import ensure_keys, load_public, public_key


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return ensure_keys(load(overrides={"home": str(tmp_path_factory.mktemp("home"))}))


def test_keys_are_made_once_and_are_for_their_owner(tmp_path):
    config = load(overrides={"home": str(tmp_path / "home")})
    before = os.umask(0)
    try:
        private, public = ensure_keys(config)
    finally:
        os.umask(before)
    assert [stat.S_IMODE(p.stat().st_mode) for p in (private.parent, private, public)] == [0o700, 0o600, 0o644]
    held = private.read_bytes(), public.read_bytes()
    assert ensure_keys(config) == (private, public) and public_key(config) == public
    assert (private.read_bytes(), public.read_bytes()) == held
    public.unlink()  # killed between the two
    ensure_keys(config)
    assert public.read_bytes() == held[1]
    assert sorted(p.name for p in private.parent.iterdir()) == ["model.pem", "model.pub"]


def test_many_at_once_get_the_same_key(tmp_path):
    code = (
        "import sys; from seaway.config import load; from seaway.keys import ensure_keys\n"
        "print(ensure_keys(load(overrides={'home': sys.argv[1]}))[1].read_text())"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "home")]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert len({p.communicate(timeout=60)[0] for p in started}) == 1 and all(p.returncode == 0 for p in started)


def configured(tmp_path, **trust):
    return load(overrides={"home": str(tmp_path / "home"), "trust": {k: str(v) for k, v in trust.items()}})


def test_a_configured_key_that_is_missing_or_no_pair_is_an_error_and_makes_nothing(keys, tmp_path):
    gone = tmp_path / "gone.pem"
    with pytest.raises(SeawayError, match=r"private key .*gone\.pem cannot be read .*: put it there, or correct"):
        ensure_keys(configured(tmp_path, private_key=gone))
    with pytest.raises(SeawayError, match=r"trusted public key .*gone\.pem cannot be read"):
        public_key(configured(tmp_path, public_key=gone))
    with pytest.raises(SeawayError, match=r"there is no private key to sign with: set trust\.private_key"):
        ensure_keys(configured(tmp_path, public_key=keys[1]))
    assert public_key(configured(tmp_path, public_key=keys[1])) == keys[1]  # enough to verify
    assert not (tmp_path / "home").exists()
    other = ensure_keys(load(overrides={"home": str(tmp_path / "other")}))
    with pytest.raises(SeawayError, match="is not the public key of"):
        ensure_keys(configured(tmp_path, private_key=keys[0], public_key=other[1]))
    other[0].unlink()
    with pytest.raises(SeawayError, match="is gone, the public one is there: restore it"):
        ensure_keys(load(overrides={"home": str(tmp_path / "other")}))


def pem(key, password=None):
    hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden)


KEYS = {
    "not a key": (b"hello", 0o600, "no private key in PEM format"),
    "empty": (b"", 0o600, "no private key in PEM format"),
    "encrypted": (pem(ec.generate_private_key(ec.SECP256R1()), b"secret"), 0o600, "is encrypted"),
    "rsa": (pem(rsa.generate_private_key(65537, 2048)), 0o600, "is not an elliptic-curve key"),
    "a weak curve": (pem(ec.generate_private_key(ec.SECP192R1())), 0o600, "is not an elliptic-curve key of"),
    "open to all": (pem(ec.generate_private_key(ec.SECP256R1())), 0o604, "can be read by every user"),
}


@pytest.mark.parametrize("case", KEYS)
def test_a_key_that_cannot_be_used_is_named_and_never_shown(tmp_path, case):
    data, mode, words = KEYS[case]
    (tmp_path / "key").write_bytes(data)
    (tmp_path / "key").chmod(mode)
    with pytest.raises(SeawayError, match=words) as caught:
        ensure_keys(configured(tmp_path, private_key=tmp_path / "key"))
    assert "PRIVATE KEY" not in str(caught.value) and str(tmp_path / "key") in str(caught.value)


def test_a_key_mounted_read_only_into_a_pod_may_have_any_mode(keys, tmp_path, monkeypatch):
    private = tmp_path / "mounted"
    shutil.copy(keys[0], private)
    private.chmod(0o644)
    configuration = configured(tmp_path, private_key=private, public_key=keys[1])
    with pytest.raises(SeawayError, match="every user"):
        ensure_keys(configuration)
    monkeypatch.setattr(os, "fstatvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY | os.ST_NOSUID))
    with pytest.raises(SeawayError, match="every user"):  # a machine that others use too
        ensure_keys(configuration)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert ensure_keys(configuration) == (private, keys[1])


def test_a_trusted_key_that_anyone_may_replace_is_not_trusted(keys, tmp_path):
    shutil.copy(keys[1], tmp_path / "open.pub")
    (tmp_path / "open.pub").chmod(0o666)
    with pytest.raises(SeawayError, match="can be written by every user"):
        load_public(tmp_path / "open.pub")
