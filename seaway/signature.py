"""The signature file of a model bundle, as OpenSSF `model-signing` writes it, read with `cryptography` alone.

``model.sig`` is a Sigstore bundle: a DSSE envelope, signed with a plain elliptic-curve key, around an in-toto
statement with the SHA-256 of every file. It is not read with the library that wrote it, for two reasons. The
library's import takes 0.6 s and brings sigstore and TUF into every server. And its verifier asks the signature
which files to leave out and whether links are followed, and takes two older formats too; here none of that is
the signature's to decide.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import stat
from pathlib import Path
from typing import Any

from seaway.errors import SeawayError
from seaway.keys import load_public

SIGNATURE = "model.sig"
MAX_SIGNATURE = 1 << 20  # bytes; one of ten files is 3 kB
MAX_FILES = 1000
ANEW = "register the model anew with `seaway run`"
NAME = re.compile(r"(?!\.{1,2}(/|$))[\w.+=@-]+(/(?!\.{1,2}(/|$))[\w.+=@-]+)*", re.ASCII)  # of a file in a bundle
_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://model_signing/signature/v1.0"
_SHA256 = re.compile(r"[0-9a-f]{64}")


def signed_files(bundle: Path, trusted: Path) -> dict[str, str]:
    """SHA-256 by name, as signed with the key of the file ``trusted``; SeawayError says why it is not."""
    file = bundle / SIGNATURE
    if not os.path.lexists(file):
        raise SeawayError(f"{bundle} has no signature ({SIGNATURE}): {ANEW}")
    with open_plain(file) as stream:
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
        if not isinstance(name, str) or not NAME.fullmatch(name) or name == SIGNATURE:
            raise SeawayError(f"{file} names a file that no bundle may hold: {name!r:.80}")
        if algorithm != "sha256" or not isinstance(value, str) or not _SHA256.fullmatch(value):
            raise SeawayError(f"{file} has no SHA-256 of {name}: {ANEW}")
    files = {name: value for name, _, value in listed}
    if len(files) != len(listed):
        raise SeawayError(f"{file} names a file twice: {ANEW}")
    return files


def open_plain(path: Path) -> Any:
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
