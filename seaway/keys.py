"""Key files: the pair that signs model bundles, made at first use where none is configured; and other secrets."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seaway.errors import SeawayError

if TYPE_CHECKING:  # servers load keys too, and need no configuration
    from seaway.config import Config

_CURVES = ("secp256r1", "secp384r1", "secp521r1")  # those of the signature format
IN_PODS = Path("/var/run/seaway/trust/model.pub")  # of the ConfigMap that serving.trust names, in every pod
_MAX = 1 << 16  # bytes of a key file


def ensure_keys(config: Config) -> tuple[Path, Path]:
    """Paths of the private and the public key, a pair; home/keys is filled at first use, never overwritten.

    Raises SeawayError for a configured key that is missing, unusable or open to others, and for two that
    are no pair.
    """
    private, public = _private_path(config), _public_path(config)
    if config.trust.private_key is None and not private.exists():
        if config.trust.public_key is not None:
            raise SeawayError(
                f"trust.public_key is {public}, and there is no private key to sign with: set trust.private_key"
            )
        if public.exists():
            raise SeawayError(
                f"the private key {private} is gone, the public one is there: restore it, or remove {public} "
                "too; what was signed before must then be signed anew"
            )
        create(private, _new_key(), 0o600)
    key = _load_private(private)
    pem = _public_pem(key)
    if config.trust.public_key is None and not public.exists():
        create(public, pem, 0o644)
    if _pem(load_public(public)) != pem:
        raise SeawayError(
            f"{public} is not the public key of {private}: set trust.public_key and private_key to a pair"
        )
    return private, public


def public_key(config: Config, *, make: bool = True) -> Path:
    """Path of the key that is trusted; ``make``: made at first use where none is configured."""
    path = _public_path(config)
    if make and config.trust.public_key is None and not path.exists():
        return ensure_keys(config)[1]
    load_public(path)
    return path


def load_public(path: Path) -> Any:
    """The elliptic-curve public key of a PEM file; SeawayError says what to do where it cannot be used."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    data = _read(path, 0o002, "trusted public key", "written", "the section trust")
    try:
        key = load_pem_public_key(data)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise SeawayError(f"{path} is no public key in PEM format: set trust.public_key to one") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _CURVES:
        raise SeawayError(f"{path} is not an elliptic-curve key of {', '.join(_CURVES)}: use one of these")
    return key


def _load_private(path: Path) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = secret(path, "private key", "the section trust")
    try:
        key = load_pem_private_key(data, None)
    except TypeError:
        raise SeawayError(
            f"the private key {path} is encrypted: give one that is not, in a file of mode 0600"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise SeawayError(f"{path} is no private key in PEM format: set trust.private_key to one") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in _CURVES:
        raise SeawayError(f"{path} is not an elliptic-curve key of {', '.join(_CURVES)}: use one of these")
    return key


def secret(path: Path, what: str, setting: str) -> bytes:
    """The bytes of a secret file; SeawayError, naming the ``setting``, where it is missing or open to others."""
    return _read(path, 0o007, what, "read", setting)


def _read(path: Path, forbidden: int, what: str, verb: str, setting: str) -> bytes:
    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            # a kubelet mounts a Secret read-only and with mode 0644, into one container alone
            read_only = os.fstatvfs(stream.fileno()).f_flag & os.ST_RDONLY
            alone = read_only and "KUBERNETES_SERVICE_HOST" in os.environ
            data = stream.read(_MAX)
    except OSError as error:
        raise SeawayError(
            f"the {what} {path} cannot be read ({error.strerror}): put it there, or correct {setting}"
        ) from None
    if mode & forbidden and not alone:
        raise SeawayError(f"the {what} {path} can be {verb} by every user of this machine: `chmod o-rwx` it")
    return data


def _private_path(config: Config) -> Path:
    return _path(config.trust.private_key, config.home / "keys" / "model.pem")


def _public_path(config: Config) -> Path:
    if config.trust.public_key is None and config.serving.trust and IN_PODS.exists():
        return IN_PODS
    return _path(config.trust.public_key, config.home / "keys" / "model.pub")


def _path(configured: str | None, default: Path) -> Path:
    from seaway.config import project_root

    return project_root() / Path(configured).expanduser() if configured else default.absolute()


def _new_key() -> bytes:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _public_pem(private: Any) -> bytes:
    return _pem(private.public_key())


def _pem(public: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def create(path: Path, data: bytes, mode: int) -> None:
    """Write a new file whole, unless another process was first: its file stays."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(handle, "wb") as stream:
            os.fchmod(stream.fileno(), mode)  # whatever the umask
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.link(temporary, path)  # fails where the file exists
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
