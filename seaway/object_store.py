"""The clients of object storage: URIs, one client a service, and failures in words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote

from seaway.errors import SeawayError

_URI = re.compile(r"(s3|gs|file)://([^/?#]*)(/[^?#]*)?")
_HOW = (
    "give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment (pods: storage.secret), or let the account "
    "that runs this read and write there"
)


class Absent(SeawayError):
    """Nothing is stored at the URI."""


def parts(uri: str) -> tuple[str, str, str]:
    """(scheme, bucket, path within it); SeawayError for what is no URI of object storage."""
    match = _URI.fullmatch(uri)
    if not match or bool(match[2]) == (match[1] == "file") or (match[1] == "file" and not match[3]):
        raise SeawayError(f"{uri!r} is no storage URI: write s3://bucket/prefix, gs://bucket/prefix or file:///folder")
    path = (match[3] or "").strip("/")
    path = unquote(path) if match[1] == "file" else path
    if path and not is_name(path):
        raise SeawayError(f"{uri!r} is no storage URI: its path has an empty or dotted part")
    return match[1], match[2], path


def is_name(name: str) -> bool:
    """A relative path without tricks: nothing that is fetched may leave its folder."""
    return bool(name) and all(p not in ("", ".", "..") for p in name.split("/")) and name.isprintable()


def quoted(base: str, name: str) -> str:
    return quote(name) if base.startswith("file:") else name


@lru_cache
def client(scheme: str, bucket: str, endpoint: str | None, region: str | None, process: int) -> Any:
    """The service's client; one a process, since its threads do not survive a fork."""
    from obstore import store

    if scheme == "file":
        return store.LocalStore("/", mkdir=False)
    plain = (endpoint or "").startswith("http:")
    given: dict[str, Any] = {
        "retry_config": {"max_retries": 4, "retry_timeout": timedelta(seconds=60)},
        "client_options": {"connect_timeout": "5s", "timeout": "600s", "allow_http": plain},
    }
    if scheme == "gs":
        return store.GCSStore(bucket, **given)
    settings = {"endpoint": endpoint, "region": region}
    return store.S3Store(bucket, **{k: v for k, v in settings.items() if v}, **given)


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Failures of the service as errors that name the URI and what to do."""
    from obstore import exceptions as kinds

    try:
        yield
    except (kinds.NotFoundError, FileNotFoundError):
        raise Absent(f"{uri} does not exist") from None
    except (kinds.AlreadyExistsError, FileExistsError):
        raise SeawayError(f"{uri} is there already, and is not written twice") from None
    except (kinds.PermissionDeniedError, kinds.UnauthenticatedError, PermissionError) as error:
        raise SeawayError(f"{uri} may not be used ({_short(error)}): {_HOW}") from None
    except (kinds.BaseError, OSError) as error:
        if uri.startswith("file:") and "(os error 20)" in str(error):  # a part of the path is a file
            raise Absent(f"{uri} does not exist") from None
        raise SeawayError(f"{uri} cannot be used ({_short(error)}): check storage.uri and storage.endpoint") from None


def _short(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:300]
