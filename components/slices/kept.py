"""Slices that are finished, in a folder of home until the bundle is whole: a run that was killed does only the rest."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from components.slices.fit import Fitted
from seaway.artifacts import atomic_write, read_json, write_json
from seaway.cache import place

MODEL, RECORD = ("model.onnx", "model.json"), "record.json"


class Kept:
    """``folder``/<name>/ for each finished slice: its record, written last, and the files of its model."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def records(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The records of those of ``names`` that are finished."""
        files = {name: self.folder / name / RECORD for name in names}
        return {name: read_json(file) for name, file in files.items() if file.exists()}

    def add(self, name: str, fitted: Fitted) -> None:
        """Keep a slice, durably. One that failed is not kept: it is tried again."""
        if fitted.failed:
            return
        at = self.folder / name
        if fitted.record["kept"]:
            with atomic_write(at / "model.onnx") as temporary:
                temporary.write_bytes(fitted.onnx)
            write_json(at / "model.json", fitted.model)
        write_json(at / RECORD, fitted.record)

    def put(self, name: str, out: Path) -> None:
        """Make ``out`` hold the files of a slice's model."""
        for file in MODEL:
            place(self.folder / name / file, out / file)

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
