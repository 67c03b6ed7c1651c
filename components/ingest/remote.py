"""Sources in object storage: which objects a URI names, and bringing them here."""

from __future__ import annotations

import glob
import re
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from seaway.errors import SeawayError
from seaway.storage import Found, Storage

SUFFIXES = (".parquet", ".csv")


def objects(name: str, uri: str, storage: Storage | None) -> dict[str, Found]:
    """The data objects that ``uri`` names, by their names below it, sorted: one object, all below, or a pattern.

    ``*`` and ``?`` stay within one part of the name, ``**`` does not. Raises SeawayError where there is none.
    """
    base, pattern = _divided(uri)
    chosen = _below(base, pattern, storage)
    if not chosen and pattern and not glob.has_magic(pattern):
        chosen = _below(uri.rstrip("/"), "", storage)  # a folder whose name ends as a file's, as Spark writes them
    if not chosen:
        raise SeawayError(
            f"source {name!r}: no Parquet or CSV file at {uri}. Give an object, a prefix or a pattern of objects "
            "whose names end in .parquet or .csv"
        )
    return chosen


def _below(base: str, pattern: str, storage: Storage | None) -> dict[str, Found]:
    plain = unquote if base.startswith("file:") else str  # the only kind of URI whose path is quoted
    found = {plain(f.uri.removeprefix(f"{base}/")): f for f in _reader(storage, base).find(base)}
    wanted = _regex(plain(pattern)) if pattern else None
    return {k: f for k, f in sorted(found.items()) if _is_data(k) and (not wanted or wanted.fullmatch(k))}


def bring(name: str, uri: str, storage: Storage | None, folder: Path) -> Path:
    """Download what ``objects`` finds into ``folder``, under the same names."""
    base, _ = _divided(uri)
    for label, found in objects(name, uri, storage).items():
        _reader(storage, base).download(found.uri, folder / label)
    return folder


def _divided(uri: str) -> tuple[str, str]:
    """(the folder, the pattern below it); an object alone is the pattern of its own name."""
    scheme, _, rest = uri.rstrip("/").partition("://")
    parts = rest.split("/")
    fixed = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    if fixed == len(parts) and parts[-1].lower().endswith(SUFFIXES):
        fixed -= 1
    return f"{scheme}://{'/'.join(parts[:fixed])}", "/".join(parts[fixed:])


def _regex(pattern: str) -> re.Pattern[str]:
    made = ""
    for piece in re.findall(r"\*\*/|\*\*|\*|\?|[^*?]+", pattern):
        made += {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(piece, re.escape(piece))
    return re.compile(made)


def _is_data(label: str) -> bool:
    hidden = any(part.startswith((".", "_")) for part in PurePosixPath(label).parts)  # such as _SUCCESS
    return label.lower().endswith(SUFFIXES) and not hidden


def _reader(storage: Storage | None, uri: str) -> Storage:
    same = storage is not None and storage.uri.partition(":")[0] == uri.partition(":")[0]
    return storage if same else Storage(uri)
