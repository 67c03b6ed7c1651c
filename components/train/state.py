"""The file of a training's state: tensors by name and what else there is, whole or absent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seaway.artifacts import atomic_write


def write(path: Path, tensors: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
    """One safetensors file with ``meta`` as JSON."""
    from safetensors.torch import save_file

    with atomic_write(path) as temporary:
        whole = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
        save_file(whole, temporary, {"seaway": json.dumps(meta)})


def read(path: Path, device: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Meta data and tensors of such a file; None when it is not there or cut short."""
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt", device=device) as file:
            meta = json.loads(file.metadata()["seaway"])
            return meta, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, KeyError, TypeError, ValueError):
        return None


def under(tensors: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
