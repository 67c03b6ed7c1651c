"""Signatures of model bundles: who made a bundle, and that not a bit of it has changed since.

A bundle is signed with OpenSSF `model-signing` and a plain elliptic-curve key; seaway/signature.py reads what
it wrote. A bundle verifies when it holds exactly the signed files, all of them plain, and nothing else.

The digest of a bundle is that of its files' list, as ``sha256sum`` prints it, in the order of their names:

    find * -type f ! -name model.sig | LC_ALL=C sort | xargs sha256sum | sha256sum
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from seaway.artifacts import atomic_write
from seaway.errors import SeawayError
from seaway.keys import ensure_keys, public_key
from seaway.signature import ANEW, MAX_FILES, NAME, SIGNATURE, open_plain, signed_files

if TYPE_CHECKING:
    from seaway.config import Config


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
        with open_plain(self.folder / name) as stream:
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
    _check_folder(bundle)
    signed = signed_files(bundle, Path(trusted))  # first: of a folder without it, nothing more is looked at or told
    there = dict(_walk(bundle))
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


def _check_folder(bundle: Path) -> None:
    if bundle.is_symlink() or not bundle.is_dir():
        raise SeawayError(f"{bundle} is not a folder, so no model bundle")


def _walk(bundle: Path) -> Iterator[tuple[str, Path]]:
    """Name and path of every file but the signature; links and special files raise SeawayError."""
    _check_folder(bundle)
    folders, count = [bundle], 0
    while folders:
        for entry in os.scandir(folders.pop()):
            path = Path(entry.path)
            name = path.relative_to(bundle).as_posix()
            count += 1
            if entry.is_symlink():
                raise SeawayError(f"{path} is a symbolic link: a bundle holds plain files only")
            if not NAME.fullmatch(name) or count > MAX_FILES:
                raise SeawayError(f"{bundle} holds {name!r:.80}: too many files, or a name that no bundle may hold")
            if entry.is_dir(follow_symlinks=False):
                folders.append(path)
            elif not entry.is_file(follow_symlinks=False):
                raise SeawayError(f"{path} is a special file: a bundle holds plain files only")
            elif name != SIGNATURE:
                yield name, path


def _hash(path: Path) -> str:
    with open_plain(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _short(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
