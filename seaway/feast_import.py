"""Importing Feast in half its time."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any
from unittest import mock


def import_feast() -> None:
    """Import Feast without two things that nobody here uses and that cost most of its start.

    Feast recompiles its definitions with run-time type checks while it is imported, and loads torch for
    one optional converter, which it does without where torch is missing. Both are as ever afterwards: a
    later ``import torch`` works. Does nothing where Feast has been imported before.
    """
    if "feast" in sys.modules:
        return
    import typeguard

    absent: dict[str, Any] = {} if "torch" in sys.modules else {"torch": None}
    with mock.patch.object(typeguard, "typechecked", _unchecked):
        sys.modules.update(absent)
        try:
            import feast  # noqa: F401
        finally:
            for name in absent:
                del sys.modules[name]


def _unchecked(target: Any = None, **_: Any) -> Any:
    plain: Callable[[Any], Any] = lambda decorated: decorated  # noqa: E731
    return plain(target) if target is not None else plain
