"""Versions as MLflow keeps them in its SQLite file: name, alias, version, source, tags. Reading only."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse


@dataclass(frozen=True)
class Version:
    """One registered version. ``bundle`` is the folder of the model bundle (a URI when it is remote)."""

    name: str
    version: str
    run_id: str
    bundle: str
    tags: dict[str, str] = field(default_factory=dict)

    def as_record(self) -> dict[str, Any]:
        return asdict(self)


def find_in_file(file: Path, name: str, which: str) -> Version | None:
    """The version of the model ``name`` with this alias or number; sqlite3.Error for a schema not known here."""
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=10)) as db:
        if which.isdigit():
            version = int(which)
        else:
            query = "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = ?"
            row = db.execute(query, (name, which)).fetchone()
            if row is None:
                return None
            version = row[0]
        query = (
            "SELECT run_id, source FROM model_versions "
            "WHERE name = ? AND version = ? AND current_stage != 'Deleted_Internal'"
        )
        row = db.execute(query, (name, version)).fetchone()
        if row is None:
            return None
        query = "SELECT key, value FROM model_version_tags WHERE name = ? AND version = ?"
        tags = dict(db.execute(query, (name, version)).fetchall())
    return Version(name, str(version), row[0], local(row[1]), tags)


def local(source: str) -> str:
    """A file URI as a path; any other URI as it is."""
    return unquote(urlparse(source).path) if source.startswith("file://") else source
