"""Step results by content: a step runs only when its code, its parameters or its inputs' bytes changed.

Layout below the cache folder: ``<step>/<key>/manifest.json`` and ``<step>/<key>/outputs/<name>``. An entry
is filled aside, in ``<step>/.work-<key>``, and renamed when the step has succeeded: whole, or not there.
``<step>/last.json`` holds what the last attempt consisted of, to say what is different this time.

With object storage, entries are also published as ``<storage>/cache/<step>/<key>/``: machines and pods that share
nothing else find each other's results. How long they are kept there is the bucket's own rule.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from seaway.artifacts import content_hash, read_json, record_hash, write_json
from seaway.errors import SeawayError
from seaway.storage import Absent, Storage


@dataclass(frozen=True)
class Ingredients:
    """All that decides a step's result: hashes of its source files, parameters, hashes of its inputs."""

    step: str
    code: dict[str, str]
    parameters: dict[str, Any]
    inputs: dict[str, str]

    @property
    def key(self) -> str:
        return record_hash(asdict(self))[:32]

    def difference(self, before: Ingredients) -> str:
        """What differs from an earlier attempt, for a person; empty when nothing does."""
        changed = []
        if files := _changed(before.code, self.code):
            more = f" and {len(files) - 3} more" if len(files) > 3 else ""
            changed.append(f"code changed: {', '.join(files[:3])}{more}")
        for name in _changed(before.parameters, self.parameters):
            old, new = before.parameters.get(name, "(none)"), self.parameters.get(name, "(none)")
            changed.append(f"parameter changed: {name} {old} -> {new}")
        changed += [f"input changed: {name}" for name in _changed(before.inputs, self.inputs)]
        return "; ".join(changed)


def _changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    missing = object()
    return [n for n in sorted(before.keys() | after.keys()) if before.get(n, missing) != after.get(n, missing)]


@dataclass(frozen=True)
class Entry:
    """A stored result: its folder, its outputs by name and what the step returned."""

    folder: Path
    outputs: dict[str, Path]
    summary: dict[str, Any]
    seconds: float


class StepCache:
    """The stored results of all steps below ``folder``; the newest ``keep`` of each step stay.

    ``remote``: object storage that has them too. What it cannot do is told by ``warn`` and costs time only.
    """

    def __init__(
        self,
        folder: Path,
        keep: int = 3,
        remote: Storage | None = None,
        warn: Callable[[str], object] = lambda text: None,
    ) -> None:
        self._folder, self._keep, self._remote, self._warn = folder, keep, remote, warn

    def find(self, what: Ingredients) -> Entry | None:
        """The stored result for these ingredients; None when there is none or its bytes have changed."""
        return self._here(what) or (self._here(what) if self._fetched(what) else None)

    def _fetched(self, what: Ingredients) -> bool:
        """Whether the entry is here now, from storage."""
        if self._remote is None:
            return False
        try:
            self._remote.fetch(self._place(what), self._folder / what.step / what.key)
        except Absent:
            return False
        except SeawayError as error:
            self._warn(f"the stored result cannot be read, so the step runs: {error}")
            return False
        return True

    def _place(self, what: Ingredients) -> str:
        return self._remote.join("cache", what.step, what.key) if self._remote else ""

    def _here(self, what: Ingredients) -> Entry | None:
        folder = self._folder / what.step / what.key
        try:
            manifest = read_json(folder / "manifest.json")
        except (FileNotFoundError, ValueError):
            return None
        outputs = {name: folder / "outputs" / name for name in manifest["outputs"]}
        for name in manifest.get("empty", []):  # folders that object storage does not know
            (folder / "outputs" / name).mkdir(parents=True, exist_ok=True)
        if hashes(outputs) != manifest["outputs"]:
            shutil.rmtree(folder)
            return None
        os.utime(folder)  # used: pruning takes the others first
        return Entry(folder, outputs, manifest["summary"], manifest["seconds"])

    def known(self, what: Ingredients) -> dict[str, Any] | None:
        """The manifest of the result that is here, its bytes not looked at: enough to foretell, not to use it."""
        try:
            return read_json(self._folder / what.step / what.key / "manifest.json")
        except (FileNotFoundError, ValueError):
            return None

    def explain(self, what: Ingredients, hit: bool) -> str:
        """Why the step runs or does not, from the comparison with the last attempt."""
        try:
            before = Ingredients(**read_json(self._folder / what.step / "last.json"))
        except (FileNotFoundError, ValueError, TypeError):
            return "unchanged" if hit else "first run"
        difference = what.difference(before)
        if hit:
            return "unchanged since an earlier run" if difference else "unchanged"
        return difference or "did not finish last time, or its result is gone"

    def begin(self, what: Ingredients) -> Path:
        """An empty folder to work in, and a note of the attempt."""
        self.note(what)
        work = self._folder / what.step / f".work-{what.key}"
        shutil.rmtree(work, ignore_errors=True)
        (work / "outputs").mkdir(parents=True)
        return work

    def note(self, what: Ingredients) -> None:
        """Remember these ingredients as the step's last attempt."""
        write_json(self._folder / what.step / "last.json", asdict(what))

    def store(self, what: Ingredients, work: Path, names: list[str], summary: dict[str, Any], seconds: float) -> Entry:
        """Make the finished work the stored result; only ``names`` below its outputs are kept."""
        outputs = {name: work / "outputs" / name for name in names}
        manifest = {"ingredients": asdict(what), "summary": summary, "seconds": seconds, "stored": time.time()}
        # not write_json: a summary keeps the order in which the step gave it
        manifest |= {"outputs": hashes(outputs), "empty": _empty_folders(work / "outputs")}
        (work / "manifest.json").write_text(json.dumps(manifest, default=str))
        folder = self._folder / what.step / what.key
        shutil.rmtree(folder, ignore_errors=True)
        work.rename(folder)
        self._prune(what.step, folder)
        self._publish(what, folder)
        return Entry(folder, {name: folder / "outputs" / name for name in names}, summary, seconds)

    def discard(self, what: Ingredients) -> None:
        """Forget the stored result, if there is one."""
        shutil.rmtree(self._folder / what.step / what.key, ignore_errors=True)
        if self._remote is not None:
            with suppress(SeawayError):  # then it is found to be no good once more
                self._remote.remove(self._place(what))

    def _publish(self, what: Ingredients, folder: Path) -> None:
        if self._remote is None:
            return
        try:
            self._remote.publish(folder, self._place(what), replace=True)
        except SeawayError as error:
            self._warn(f"the result is kept here only: {error}")

    def _prune(self, step: str, current: Path) -> None:
        folders = [p for p in (self._folder / step).iterdir() if p.is_dir() and p != current]
        folders.sort(key=lambda p: p.stat().st_mtime, reverse=True)
        for folder in folders[self._keep - 1 :]:
            shutil.rmtree(folder, ignore_errors=True)


def _empty_folders(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_dir() and not any(p.iterdir()))


def hashes(paths: dict[str, Path]) -> dict[str, str]:
    """Content hash of each file or folder, by name; one that does not exist has the empty hash."""
    with ThreadPoolExecutor(4) as pool:  # hashing releases the GIL
        found = pool.map(lambda path: content_hash(path) if path.exists() else "", paths.values())
        return dict(zip(paths, found, strict=True))


def place(source: Path, target: Path) -> None:
    """Make ``target`` show the file or folder ``source``: by hard links, or by copies across file systems."""
    if not source.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, copy_function=_link, dirs_exist_ok=True)
    else:
        _link(source, target)


def _link(source: str | Path, target: str | Path) -> None:
    Path(target).unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
