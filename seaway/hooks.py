"""Finding a workload's own code by its name in the configuration."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from seaway.errors import SeawayError


def resolve(name: str, root: Path) -> Any:
    """The object called ``"package.module:name"`` (or the module, without a colon), imported from ``root``.

    Raises SeawayError that names the hook when the module or the object does not exist.
    """
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
        _check_home(name, module, root)
        return getattr(module, attribute) if attribute else module
    except ModuleNotFoundError as error:
        if error.name and module_name.startswith(error.name):
            raise SeawayError(f"the workload names {name!r}, but there is no module {error.name!r} in {root}") from None
        raise
    except AttributeError:
        raise SeawayError(f"the workload names {name!r}, but {module_name} has no {attribute!r}") from None


def _check_home(name: str, module: Any, root: Path) -> None:
    """Python keeps one module a name: another workload's module of the same name must not be taken for ours."""
    file = getattr(module, "__file__", None)
    own = root / module.__name__.partition(".")[0]
    if file and (own.is_dir() or own.with_suffix(".py").exists()) and not Path(file).resolve().is_relative_to(root):
        raise SeawayError(f"the workload names {name!r} in {root}, but {file} of the same name is loaded: rename one")
