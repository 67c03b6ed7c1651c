"""images.yaml, read: what each image holds and what it starts from."""

from __future__ import annotations

import tomllib
from pathlib import Path

import yaml
from pydantic import ValidationError

from seaway.config import Section, project_root
from seaway.errors import SeawayError

FOLDER = Path(__file__).resolve().parent


class Image(Section):
    group: str  # dependency group of pyproject.toml
    folders: tuple[str, ...]  # of this project, copied to /app
    entry: tuple[str, ...]  # modules and packages that run in it: what they import must be in it


class Table(Section):
    base: str  # reference with a digest: of an index that has every architecture
    python: str  # the base's: the SBOM lists the packages that the lock gives it
    user: int
    images: dict[str, Image]


def load(file: Path = FOLDER / "images.yaml") -> Table:
    """The table; SeawayError for one that is not whole."""
    try:
        return Table.model_validate(yaml.safe_load(file.read_text()))
    except (yaml.YAMLError, ValidationError) as error:
        raise SeawayError(f"{file} is not valid: {error}") from None


def containerfile(name: str) -> Path:
    return FOLDER / name / "Containerfile"


def version() -> str:
    return str(tomllib.loads((project_root() / "pyproject.toml").read_text())["project"]["version"])
