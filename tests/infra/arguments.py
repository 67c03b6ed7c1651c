"""Which properties of a captured resource its SDK does not know. The engine would tell, but only against a cloud."""

from __future__ import annotations

import importlib
import typing
from collections.abc import Iterator
from typing import Any

from pulumi import _types


def unknown(kind: str, props: dict[str, Any]) -> list[str]:
    """ "type: path" of each property that the type's arguments do not have; of kinds of AWS and GCP only."""
    package, _, rest = kind.partition(":")
    if package not in ("aws", "gcp") or ":" not in rest:
        return []
    module, _, name = rest.partition(":")
    owner = importlib.import_module(f"pulumi_{package}.{module.partition('/')[0]}")
    shape = getattr(owner, f"{name}InitArgs", None) or getattr(owner, f"{name}Args")  # Init: the other name is taken
    return [f"{kind}: {path}" for path in _walk(shape, props, "")]


def _walk(shape: type, value: Any, path: str) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _walk(shape, item, path)
        return
    if not isinstance(value, dict) or not _types.is_input_type(shape):
        return
    names = {v: k for k, v in _types.input_type_py_to_pulumi_names(shape).items()}
    types = _types.input_type_types(shape)
    for key, inner in value.items():
        here = f"{path}.{key}".lstrip(".")
        if key not in names:
            yield here
        else:
            yield from _walk(_inner(types[key]), inner, here)


def _inner(shape: Any) -> Any:
    """The class of arguments in Sequence[Input[Args]] and the like; ``shape`` itself where there is none."""
    if _types.is_input_type(shape):
        return shape
    for part in typing.get_args(shape):
        found = _inner(part)
        if isinstance(found, type) and _types.is_input_type(found):
            return found
    return shape
