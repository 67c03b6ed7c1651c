"""Where a training's state is kept: a file below home, and object storage where there is one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.ray.place import bring
from seaway.config import Config
from seaway.storage import Storage


def remote_of(config: Config, file: Path) -> dict[str, Any] | None:
    """Where in object storage, for components.ray.place; None where there is none."""
    store = Storage.of(config)
    if store is None:
        return None
    return {"uri": store.join("training", file.stem), "endpoint": store.endpoint, "region": store.region}


def note_of(file: Path) -> Path:
    """The note on its newest epoch beside the state."""
    return file.with_suffix(".json")


def fetch(remote: Mapping[str, Any] | None, file: Path) -> None:
    """Put the state that is in object storage into ``file``, unless the one that is there has gone further."""
    if not remote:
        return
    mine = file.with_name(f"here-{file.name}")
    if file.exists():
        file.replace(mine)
    bring(remote, file)
    if mine.exists():
        if epochs(mine) >= epochs(file):
            mine.replace(file)
        else:
            mine.unlink()


def forget(remote: Mapping[str, Any] | None, file: Path) -> None:
    """Remove the state, here and there: the model is written."""
    for one in (file, note_of(file)):
        one.unlink(missing_ok=True)
        if remote:
            Storage(remote["uri"], remote["endpoint"], remote["region"]).remove(f"{remote['uri']}/{one.name}")


def epochs(file: Path) -> int:
    """How many a state has behind it; -1 where there is none, or one that is cut short."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            return len(json.loads(opened.metadata()["seaway"])["history"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return -1
