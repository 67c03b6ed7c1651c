"""Signed bundles: what must not pass, in plain words; what passes, passes the library's own verifier too."""

import base64
import hashlib
import json
import os
import shutil
import subprocess

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seaway.config import load
from seaway.errors import SeawayError
from seaway.keys import ensure_keys
from seaway.signature import MAX_SIGNATURE, SIGNATURE
from seaway.signing import digest, opened, sign, verify
from tests.seaway.test_keys import configured, pem

FILES = {"model.onnx": b"\x08\x0a weights" * 999, "model.json": b'{"threshold": 0.5}', "baseline/model.onnx": b"plain"}


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return ensure_keys(load(overrides={"home": str(tmp_path_factory.mktemp("home"))}))


@pytest.fixture
def make(keys, tmp_path):
    """Makes a signed bundle of the given files, in a folder of its own."""

    def made(files=FILES, name="bundle", key=None):
        folder = tmp_path / name
        for file, data in files.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(data)
        sign(folder, key or keys[0])
        return folder

    return made


def library_accepts(bundle, key):
    from model_signing import hashing, verifying

    # its default leaves git's files out; ours are all signed
    whole = hashing.Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)
    check = verifying.Config().set_hashing_config(whole).use_elliptic_key_verifier(public_key=key)
    try:
        check.verify(bundle, bundle / SIGNATURE)
    except Exception:  # whatever it makes of it
        return False
    return True


def envelope(bundle):
    return json.loads((bundle / SIGNATURE).read_text())


def forged(bundle, private, change):
    """Signs a changed statement with the real key: what a thief of the format, not of the key, cannot do."""
    outer = envelope(bundle)
    statement = json.loads(base64.b64decode(outer["dsseEnvelope"]["payload"]))
    change(statement)
    payload, kind = json.dumps(statement).encode(), outer["dsseEnvelope"]["payloadType"].encode()
    key = serialization.load_pem_private_key(private.read_bytes(), None)
    text = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    outer["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    outer["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(key.sign(text, ec.ECDSA(hashes.SHA256()))).decode()
    (bundle / SIGNATURE).write_text(json.dumps(outer))


def test_a_signed_bundle_verifies_for_us_and_for_the_library(make, keys):
    bundle = make()
    assert verify(bundle, keys[1]) == digest(bundle)
    assert library_accepts(bundle, keys[1])
    assert opened(bundle, keys[1], digest(bundle)).read("model.json") == FILES["model.json"]


def test_the_digest_is_what_coreutils_gives_and_no_matter_of_place_or_signature(make, keys):
    bundle = make()
    command = "find * -type f ! -name model.sig | LC_ALL=C sort | xargs sha256sum | sha256sum"
    shown = subprocess.run(command, shell=True, cwd=bundle, capture_output=True, text=True, check=True).stdout
    assert shown.split()[0] == digest(bundle) == digest(make(name="elsewhere"))
    before = (bundle / SIGNATURE).read_bytes()
    sign(bundle, keys[0])
    assert (bundle / SIGNATURE).read_bytes() != before and verify(bundle, keys[1]) == digest(bundle)
    assert digest(make({**FILES, "model.json": b"{}"}, "other")) != digest(bundle)
    renamed = {("model.jsom" if name == "model.json" else name): data for name, data in FILES.items()}
    assert digest(make(renamed, "renamed")) != digest(bundle)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_found_in_every_file(make, keys, name):
    bundle = make()
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / name).write_bytes(data)
    with pytest.raises(SeawayError, match=rf"was changed after it was signed: {name}\. Restore it, or register"):
        verify(bundle, keys[1])


def spoil_extra(bundle):
    (bundle / "helper.py").write_text("import os")


def spoil_hidden(bundle):
    (bundle / ".git").mkdir()
    (bundle / ".git" / "config").write_text("[core]")


def spoil_missing(bundle):
    (bundle / "baseline" / "model.onnx").unlink()


def spoil_swapped(bundle):
    one, two = bundle / "model.onnx", bundle / "baseline" / "model.onnx"
    data = one.read_bytes(), two.read_bytes()
    two.write_bytes(data[0]), one.write_bytes(data[1])


def spoil_link(bundle):
    away = bundle.parent / "away"
    shutil.move(bundle / "model.onnx", away)
    (bundle / "model.onnx").symlink_to(away)


def spoil_linked_folder(bundle):
    shutil.move(bundle / "baseline", bundle.parent / "far")
    (bundle / "baseline").symlink_to(bundle.parent / "far", target_is_directory=True)


def spoil_pipe(bundle):
    os.mkfifo(bundle / "pipe")


def spoil_linked_signature(bundle):
    shutil.move(bundle / SIGNATURE, bundle.parent / "sig")
    (bundle / SIGNATURE).symlink_to(bundle.parent / "sig")


def spoil_piped_signature(bundle):
    (bundle / SIGNATURE).unlink()
    os.mkfifo(bundle / SIGNATURE)


def spoil_unsigned(bundle):
    (bundle / SIGNATURE).unlink()


def spoil_truncated(bundle):
    data = (bundle / SIGNATURE).read_bytes()
    (bundle / SIGNATURE).write_bytes(data[: len(data) // 2])


def spoil_oversize(bundle):
    (bundle / SIGNATURE).write_bytes((bundle / SIGNATURE).read_bytes() + b" " * MAX_SIGNATURE)


def spoil_deep(bundle):
    (bundle / SIGNATURE).write_bytes(b"[" * 100_000)


def spoil_payload(bundle):
    outer = envelope(bundle)
    payload = base64.b64decode(outer["dsseEnvelope"]["payload"])
    outer["dsseEnvelope"]["payload"] = base64.b64encode(payload.replace(b"baseline/", b"baselinf/")).decode()
    (bundle / SIGNATURE).write_text(json.dumps(outer))


def spoil_two_signatures(bundle):
    outer = envelope(bundle)
    outer["dsseEnvelope"]["signatures"] *= 2
    (bundle / SIGNATURE).write_text(json.dumps(outer))


def spoil_none(bundle):
    outer = envelope(bundle)
    outer["dsseEnvelope"]["signatures"] = []
    (bundle / SIGNATURE).write_text(json.dumps(outer))


def spoil_type(bundle):
    outer = envelope(bundle)
    outer["dsseEnvelope"]["payloadType"] = "text/plain"
    (bundle / SIGNATURE).write_text(json.dumps(outer))


SPOILED = {
    spoil_extra: r"holds what was not signed: helper\.py",
    spoil_hidden: r"holds what was not signed: \.git/config",
    spoil_missing: r"lacks what was signed: baseline/model\.onnx",
    spoil_swapped: r"was changed after it was signed: baseline/model\.onnx, model\.onnx",
    spoil_link: r"model\.onnx is a symbolic link",
    spoil_linked_folder: r"baseline is a symbolic link",
    spoil_pipe: r"pipe is a special file",
    spoil_linked_signature: r"model\.sig cannot be read: .*symbolic link",
    spoil_piped_signature: r"model\.sig is a special file",
    spoil_unsigned: r"has no signature \(model\.sig\): register the model anew with `seaway run`",
    spoil_truncated: r"model\.sig is cut off or no signature",
    spoil_oversize: r"longer than 1,048,576 bytes",
    spoil_deep: r"model\.sig is cut off or no signature",
    spoil_payload: r"model\.sig was changed after it was made",
    spoil_two_signatures: r"model\.sig is cut off or no signature",
    spoil_none: r"model\.sig is cut off or no signature",
    spoil_type: r"not of a format that is trusted",
}


@pytest.mark.parametrize("spoil", SPOILED, ids=lambda f: f.__name__.removeprefix("spoil_"))
def test_what_must_not_pass(make, keys, spoil):
    bundle = make()
    spoil(bundle)
    with pytest.raises(SeawayError, match=SPOILED[spoil]):
        verify(bundle, keys[1])


def test_a_whole_other_signed_bundle_is_not_the_expected_one(make, keys):
    old, new = make(), make({**FILES, "model.json": b"{}"}, "new")
    assert verify(new, keys[1])  # signed with the right key
    with pytest.raises(SeawayError, match="is signed, but is not the bundle that was registered or released"):
        opened(new, keys[1], digest(old))


def test_another_key_is_named_as_such_whatever_the_signature_claims(make, keys, tmp_path):
    mine = ensure_keys(load(overrides={"home": str(tmp_path / "thief")}))
    bundle = make(key=mine[0])
    with pytest.raises(SeawayError, match="was made with another key than"):
        verify(bundle, keys[1])
    outer = envelope(bundle)  # pretends to be the trusted one
    outer["verificationMaterial"]["publicKey"]["hint"] = hashlib.sha256(keys[1].read_bytes()).hexdigest()
    (bundle / SIGNATURE).write_text(json.dumps(outer))
    with pytest.raises(SeawayError, match="was changed after it was made"):
        verify(bundle, keys[1])
    assert verify(make(name="own", key=mine[0]), mine[1])


def resource(statement, **changes):
    statement["predicate"]["resources"][0].update(changes)


NAMES = ["../away", "/etc/passwd", "a/../../b", "./a", "a//b", "", "..", "a\\b", "a\nb", "model.sig", "baseline/..", 7]


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_a_name_that_leaves_the_bundle_is_refused_even_when_it_is_signed(make, keys, name):
    bundle = make()
    forged(bundle, keys[0], lambda s: resource(s, name=name))
    (bundle.parent / "away").write_bytes(b"x")
    with pytest.raises(SeawayError, match="names a file that no bundle may hold"):
        verify(bundle, keys[1])


STATEMENTS = {
    "another hash": (lambda s: resource(s, algorithm="md5"), "has no SHA-256"),
    "a short hash": (lambda s: resource(s, digest="ab"), "has no SHA-256"),
    "twice the same": (lambda s: s["predicate"]["resources"].append(s["predicate"]["resources"][0]), "a file twice"),
    "no files": (lambda s: s["predicate"].update(resources=[]), "does not sign a model"),
    "an old format": (lambda s: s.update(predicateType="https://model_signing/Digests/v0.1"), "does not sign a model"),
    "no statement": (lambda s: s.clear(), "no list of files"),
    "too many": (lambda s: s["predicate"].update(resources=s["predicate"]["resources"] * 999), "does not sign a model"),
}


@pytest.mark.parametrize("case", STATEMENTS)
def test_a_signed_statement_of_another_kind_is_refused(make, keys, case):
    bundle = make()
    forged(bundle, keys[0], STATEMENTS[case][0])
    with pytest.raises(SeawayError, match=STATEMENTS[case][1]):
        verify(bundle, keys[1])


def test_what_to_leave_out_and_links_are_not_the_signatures_to_decide(make, keys):
    bundle = make()

    def change(statement):
        statement["predicate"]["serialization"].update(ignore_paths=[SIGNATURE, "extra"], allow_symlinks=True)

    forged(bundle, keys[0], change)
    assert verify(bundle, keys[1])
    (bundle / "extra").write_bytes(b"x")
    with pytest.raises(SeawayError, match="holds what was not signed: extra"):
        verify(bundle, keys[1])


@pytest.fixture
def signed(make):
    """A signed bundle; signed once, as a signature's length differs from one to the next."""
    return make()


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_whichever_byte_changes_nothing_else_than_what_was_signed_passes(signed, keys, data):
    """Any one byte of any file. Of the signature, only bytes that nobody reads may change (an empty list's name)."""
    before = meaning(signed)
    name = data.draw(st.sampled_from([*FILES, SIGNATURE, SIGNATURE]))
    whole = (signed / name).read_bytes()
    content = bytearray(whole)
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    (signed / name).write_bytes(content)
    try:
        verify(signed, keys[1])
        assert name == SIGNATURE and meaning(signed) == before
    except SeawayError:
        pass
    finally:
        (signed / name).write_bytes(whole)


def meaning(bundle):
    outer = envelope(bundle)
    inner = outer["dsseEnvelope"]
    coded = [inner["payload"], *(s["sig"] for s in inner["signatures"])]
    return [base64.b64decode(c) for c in coded], inner["payloadType"], outer["verificationMaterial"]["publicKey"]


def test_of_a_folder_that_is_not_signed_nothing_is_told(keys, tmp_path):
    """A released object names the folder: what lies in it must not show in the reasons that others read."""
    (tmp_path / "private" / "payroll").mkdir(parents=True)
    with pytest.raises(SeawayError, match="has no signature") as caught:
        verify(tmp_path / "private", keys[1])
    assert "payroll" not in str(caught.value)


def test_what_is_read_later_is_what_was_checked(make, keys):
    bundle = make()
    sealed = opened(bundle, keys[1])
    (bundle / "model.onnx").write_bytes(b"swapped after the check")
    with pytest.raises(SeawayError, match="was changed while the bundle was being read"):
        sealed.read("model.onnx")
    with pytest.raises(SeawayError, match="has no secrets"):
        sealed.read("secrets")


def test_what_would_not_verify_is_not_signed(keys, tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "link").symlink_to("/etc/passwd")
    with pytest.raises(SeawayError, match="symbolic link"):
        sign(tmp_path / "b", keys[0])
    with pytest.raises(SeawayError, match="is not a folder"):
        verify(tmp_path / "nothing", keys[1])


@pytest.mark.parametrize("curve", [ec.SECP256R1, ec.SECP384R1, ec.SECP521R1])
def test_every_curve_of_the_format_can_be_used(make, tmp_path, curve):
    (tmp_path / "own.pem").write_bytes(pem(ec.generate_private_key(curve())))
    (tmp_path / "own.pem").chmod(0o600)
    private, public = ensure_keys(configured(tmp_path, private_key=tmp_path / "own.pem"))
    assert public == tmp_path / "home" / "keys" / "model.pub"
    bundle = make(key=private)
    assert verify(bundle, public) and library_accepts(bundle, public)
