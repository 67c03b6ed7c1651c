"""The source files that a piece of code consists of: its own module and all project modules it imports.

Found by reading import statements, those inside functions included; nothing is imported. Code that is
reached by a name in the configuration (a workload's hooks) is not visible here and is named by the caller.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from seaway.artifacts import content_hash, record_hash
from seaway.config import project_root


def source_hashes(modules: Iterable[str], roots: Sequence[Path]) -> dict[str, str]:
    """SHA-256 of each source file of ``modules`` and of the project modules they import, by file name.

    A module belongs to the project when its file lies below one of ``roots``; others (the standard
    library, installed packages) are left out. File names are relative to their root.
    """
    waiting, seen, files, hashes = list(modules), set(), set(), {}
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for root in roots:
            for file in _files(name, root):
                if file in files:
                    continue
                files.add(file)
                text, own = file.read_bytes(), file.relative_to(root)
                hashes[file] = (own.as_posix(), hashlib.sha256(text).hexdigest())
                waiting += _imports(text, own.parent.parts, str(file))
    return dict(hashes[file] for file in sorted(hashes))


def code_of(*modules: str, also: Path | None = None) -> str:
    """Hash of the source of modules and of all that they import, and of the lock; ``also``: another root of code."""
    lock, roots = project_root() / "uv.lock", [project_root(), *([also] if also else [])]
    found = source_hashes(modules, list(dict.fromkeys(roots)))
    return record_hash([found, content_hash(lock) if lock.exists() else ""])


def _files(name: str, root: Path) -> Iterator[Path]:
    """The module's file and its packages' ``__init__.py``, as far as they exist."""
    parts = name.split(".")
    for n in range(1, len(parts) + 1):
        package = root.joinpath(*parts[:n]) / "__init__.py"
        if package.is_file():
            yield package
    module = root.joinpath(*parts).with_suffix(".py")
    if module.is_file():
        yield module


@lru_cache(maxsize=1024)
def _imports(text: bytes, package: tuple[str, ...], name: str) -> tuple[str, ...]:
    names: list[str] = []
    for node in _statements(ast.parse(text, filename=name).body):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else [])))
            # "from a import b": b may be a module
            names += [module, *(f"{module}.{alias.name}" for alias in node.names)]
    return tuple(names)


def _statements(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """All statements, those within others too; no expression holds an import."""
    for node in body:
        yield node
        for inner in ("body", "orelse", "finalbody", "handlers", "cases"):
            yield from _statements(getattr(node, inner, ()))
