"""Importing Feast in half its time, and without what it leaves in the environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any
from unittest import mock

_METRICS_FOLDERS = ("PROMETHEUS_MULTIPROCESS_DIR", "PROMETHEUS_MULTIPROC_DIR")


def import_feast() -> None:
    """Import Feast without two things that nobody here uses and that cost most of its start.

    Feast recompiles its definitions with run-time type checks while it is imported, and loads torch for
    one optional converter, which it does without where torch is missing. Both are as ever afterwards: a
    later ``import torch`` works. The environment stays as it was: Feast names a folder for metrics in it,
    which children would inherit and which is gone before they are. Does nothing where Feast has been
    imported before.
    """
    if "feast" in sys.modules:
        return
    import prometheus_client  # noqa: F401  before Feast, which would make it write its values to files
    import typeguard

    before = {name: os.environ.get(name) for name in _METRICS_FOLDERS}
    absent: dict[str, Any] = {} if "torch" in sys.modules else {"torch": None}
    with mock.patch.object(typeguard, "typechecked", _unchecked):
        sys.modules.update(absent)
        try:
            import feast  # noqa: F401
        finally:
            for name in absent:
                del sys.modules[name]
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


def _unchecked(target: Any = None, **_: Any) -> Any:
    plain: Callable[[Any], Any] = lambda decorated: decorated  # noqa: E731
    return plain(target) if target is not None else plain
