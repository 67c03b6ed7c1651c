"""Signatures of model bundles: who made a bundle, and that not a bit of it has changed since.

A bundle is signed with OpenSSF `model-signing` and a plain elliptic-curve key: a DSSE envelope around an
in-toto statement with the SHA-256 of every file, in the bundle's own file ``model.sig``. It is checked here,
with `cryptography` alone, for two reasons. The library's import takes 0.6 s and brings sigstore and TUF into
every server; and its verifier asks the signature which files to leave out and whether links are followed,
and takes two older formats too. Here the rule is one: exactly the signed files, all regular, nothing else.

The digest of a bundle is that of its files' list, as ``sha256sum`` prints it, in the order of their names:

    find * -type f ! -name model.sig | LC_ALL=C sort | xargs sha256sum | sha256sum
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seaway.artifacts import atomic_write
from seaway.errors import SeawayError
from seaway.keys import ensure_keys, load_public, public_key

if TYPE_CHECKING:
    from seaway.config import Config

SIGNATURE = "model.sig"
MAX_SIGNATURE = 1 << 20  # bytes; one of ten files is 3 kB
MAX_FILES = 1000
ANEW = "register the model anew with `seaway train`"
_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://model_signing/signature/v1.0"
_NAME = re.compile(r"(?!\.{1,2}(/|$))[\w.+=@-]+(/(?!\.{1,2}(/|$))[\w.+=@-]+)*", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Sealed:
    """A bundle whose signature was checked. ``files``: SHA-256 by name."""

    folder: Path
    files: Mapping[str, str]
    digest: str

    def read(self, name: str) -> bytes:
        """A file's bytes, which are those that were checked; SeawayError when they are not any more."""
        if name not in self.files:
            raise SeawayError(f"the bundle {self.folder} has no {name}")
        with _opened(self.folder / name) as stream:
            data = stream.read()
        if hashlib.sha256(data).hexdigest() != self.files[name]:
            raise SeawayError(f"{self.folder / name} was changed while the bundle was being read")
        return data


def sign(bundle: Path, private_key: Path) -> Path:
    """Sign all files of ``bundle`` but an earlier signature; the path of the new one, which replaces it.

    Raises SeawayError for a key that cannot be used, and for a bundle with links or odd names.
    """
    from model_signing import hashing, signing

    bundle = Path(bundle)
    digest(bundle)  # refuses what would not verify
    files = hashing.Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / SIGNATURE
        try:
            signer = signing.Config().use_elliptic_key_signer(private_key=private_key)
            signer.set_hashing_config(files).sign(bundle, made)
        except (OSError, TypeError, ValueError) as error:
            raise SeawayError(f"{bundle} cannot be signed with {private_key}: {_short(error)}") from None
        with atomic_write(bundle / SIGNATURE) as temporary:
            temporary.write_bytes(made.read_bytes())
    return bundle / SIGNATURE


def digest(bundle: Path) -> str:
    """SHA-256 of the list of the bundle's files, the signature left out; no signature is checked.

    Raises SeawayError for links, special files and odd names.
    """
    return _digest({name: _hash(path) for name, path in _walk(Path(bundle))})


def verify(bundle: Path, trusted: Path) -> str:
    """The digest of a bundle whose files are exactly those signed with the key; else SeawayError says why not."""
    return opened(bundle, trusted).digest


def opened(bundle: Path, trusted: Path, expected: str = "") -> Sealed:
    """The checked bundle, to be read from; ``expected``: the digest that it must have.

    Raises SeawayError for a bundle that is not whole, not signed, signed with another key or not the
    expected one.
    """
    bundle = Path(bundle)
    there = dict(_walk(bundle))
    signed = _signed_files(bundle, Path(trusted))
    if extra := sorted(set(there) - set(signed)):
        raise SeawayError(f"{bundle} holds what was not signed: {_some(extra)}. Remove it, or {ANEW}")
    if missing := sorted(set(signed) - set(there)):
        raise SeawayError(f"{bundle} lacks what was signed: {_some(missing)}. Restore it, or {ANEW}")
    if changed := sorted(name for name, path in there.items() if _hash(path) != signed[name]):
        raise SeawayError(f"{bundle} was changed after it was signed: {_some(changed)}. Restore it, or {ANEW}")
    found = _digest(signed)
    if expected and found != expected:
        raise SeawayError(
            f"{bundle} is signed, but is not the bundle that was registered or released: "
            f"its digest is {found[:12]}..., not {expected[:12]}..."
        )
    return Sealed(bundle, signed, found)


class Seal:
    """Signs and checks registered bundles with the keys of a configuration, made at first use."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def sign(self, bundle: Path) -> str:
        """Sign a bundle and return its digest; SeawayError where it or a key cannot be used."""
        private, public = ensure_keys(self._config)
        sign(bundle, private)
        return verify(bundle, public)

    def verify(self, bundle: Path, expected: str = "") -> str:
        """The digest of a signed bundle; SeawayError as ``opened``."""
        return opened(bundle, public_key(self._config), expected).digest


def _digest(files: Mapping[str, str]) -> str:
    lines = "".join(f"{files[name]}  {name}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()


# the signature


def _signed_files(bundle: Path, trusted: Path) -> dict[str, str]:
    """SHA-256 by name, as signed with the key."""
    file = bundle / SIGNATURE
    if not os.path.lexists(file):
        raise SeawayError(f"{bundle} has no signature ({SIGNATURE}): {ANEW}")
    with _opened(file) as stream:
        data = stream.read(MAX_SIGNATURE + 1)
    if len(data) > MAX_SIGNATURE:
        raise SeawayError(f"{file} is longer than {MAX_SIGNATURE:,} bytes, which no signature is: {ANEW}")
    try:
        envelope = json.loads(data)
        material, inner = envelope["verificationMaterial"], envelope["dsseEnvelope"]
        kinds = (envelope["mediaType"], inner["payloadType"])
        payload = base64.b64decode(inner["payload"], validate=True)
        (signature,) = (base64.b64decode(s["sig"], validate=True) for s in inner["signatures"])
        hint = str(material["publicKey"]["hint"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise SeawayError(f"{file} is cut off or no signature at all: {ANEW}") from None
    if kinds != (_BUNDLE, _PAYLOAD):
        raise SeawayError(f"{file} is not of a format that is trusted here: {ANEW}")
    _check(payload, signature, hint, trusted, file)
    return _listed(payload, file)


def _check(payload: bytes, signature: bytes, hint: str, trusted: Path, file: Path) -> None:
    """The signature must be the key's, over the payload as DSSE encodes it (PAE)."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = load_public(trusted)
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    algorithm = {256: hashes.SHA256, 384: hashes.SHA384, 521: hashes.SHA512}[key.curve.key_size]()
    text = b"DSSEv1 %d %s %d %s" % (len(_PAYLOAD), _PAYLOAD.encode(), len(payload), payload)
    try:
        key.verify(signature, text, ec.ECDSA(algorithm))
        fits = True
    except InvalidSignature:
        fits = False
    named = hint == hashlib.sha256(pem).hexdigest()  # the signature says which key made it
    if not fits and not named:
        raise SeawayError(f"{file} was made with another key than {trusted}: restore the key pair, or {ANEW}")
    if not fits or not named:
        raise SeawayError(f"{file} was changed after it was made: restore it, or {ANEW}")


def _listed(payload: bytes, file: Path) -> dict[str, str]:
    """The files of the statement, whose signature holds; SeawayError for one that we would not have made."""
    try:
        statement = json.loads(payload)
        kinds = (statement["_type"], statement["predicateType"])
        resources = statement["predicate"]["resources"]
        listed = [(r["name"], r["algorithm"], r["digest"]) for r in resources]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise SeawayError(f"{file} signs something that is no list of files: {ANEW}") from None
    if kinds != (_STATEMENT, _PREDICATE) or not 0 < len(listed) <= MAX_FILES:
        raise SeawayError(f"{file} does not sign a model, or one of more than {MAX_FILES} files: {ANEW}")
    for name, algorithm, value in listed:
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name == SIGNATURE:
            raise SeawayError(f"{file} names a file that no bundle may hold: {name!r:.80}")
        if algorithm != "sha256" or not isinstance(value, str) or not _SHA256.fullmatch(value):
            raise SeawayError(f"{file} has no SHA-256 of {name}: {ANEW}")
    files = {name: value for name, _, value in listed}
    if len(files) != len(listed):
        raise SeawayError(f"{file} names a file twice: {ANEW}")
    return files


# the files


def _walk(bundle: Path) -> Iterator[tuple[str, Path]]:
    """Name and path of every file but the signature; links and special files raise SeawayError."""
    if bundle.is_symlink() or not bundle.is_dir():
        raise SeawayError(f"{bundle} is not a folder, so no model bundle")
    folders, count = [bundle], 0
    while folders:
        for entry in os.scandir(folders.pop()):
            path = Path(entry.path)
            name = path.relative_to(bundle).as_posix()
            count += 1
            if entry.is_symlink():
                raise SeawayError(f"{path} is a symbolic link: a bundle holds plain files only")
            if not _NAME.fullmatch(name) or count > MAX_FILES:
                raise SeawayError(f"{bundle} holds {name!r:.80}: too many files, or a name that no bundle may hold")
            if entry.is_dir(follow_symlinks=False):
                folders.append(path)
            elif not entry.is_file(follow_symlinks=False):
                raise SeawayError(f"{path} is a special file: a bundle holds plain files only")
            elif name != SIGNATURE:
                yield name, path


def _hash(path: Path) -> str:
    with _opened(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _opened(path: Path) -> Any:
    """A plain file, open for reading; SeawayError for a link, a pipe or what cannot be read."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        link = " (a symbolic link: a bundle holds plain files only)" if path.is_symlink() else ""
        raise SeawayError(f"{path} cannot be read: {error.strerror}{link}") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise SeawayError(f"{path} is a special file: a bundle holds plain files only")
    return os.fdopen(handle, "rb")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _short(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
