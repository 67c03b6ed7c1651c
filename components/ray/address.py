"""A sweep on a Ray that is there (``ray.substrate: address``): joined, counted and looked over before it begins."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.ray.needs import Needs
from components.ray.place import Place, bring, joined, write_beside
from seaway import progress
from seaway.artifacts import write_json
from seaway.closure import source_hashes
from seaway.config import Config, project_root
from seaway.errors import SeawayError
from seaway.storage import Storage

LOOK_S = 120.0  # for a node to answer: its first worker imports
_SLOTS = "slots.json"


@contextmanager
def at_address(config: Config) -> Iterator[Place]:
    """The place of the configuration, joined. Raises SeawayError where no node has what a trial needs."""
    needs, address = Needs.of(config.workload.sweep.resources), config.ray.address
    with joined(address) as ray:
        if config.ray.dashboard:
            progress.say(f"sweep: Ray's own pages are at {config.ray.dashboard}")
        nodes = [node for node in ray.nodes() if node["Alive"]]
        slots = sum(fits(node["Resources"], needs) for node in nodes)
        if not slots:
            most = max((node["Resources"] for node in nodes), key=lambda r: r.get("CPU", 0), default={})
            raise SeawayError(
                f"a trial needs {needs.cpu:g} CPU, {needs.memory >> 20}Mi and {needs.gpu:g} GPU "
                f"(workload.sweep.resources), and no node of the Ray at {address!r} has that; the largest has "
                f"{most.get('CPU', 0):g} CPU, {int(most.get('memory', 0)) >> 20}Mi and {most.get('GPU', 0):g} GPU"
            )
        yield Place(address, slots, bool(needs.gpu), Storage.of(config), memory=True)


def fits(resources: Mapping[str, float], needs: Needs) -> int:
    """Trials that a node with these resources, as Ray counts them, takes at a time."""
    return needs.fits(resources.get("CPU", 0), resources.get("memory", 0), resources.get("GPU", 0))


def first_slots(folder: Path, remote: Mapping[str, Any] | None, now: int) -> int:
    """How many trials the sweep was begun with at a time: its order rests on it, however many there is room for now."""
    file = folder / _SLOTS
    bring(remote, file)
    if not file.exists():
        write_json(file, {"slots": now})
        write_beside(remote, file)
    return int(json.loads(file.read_text())["slots"])


def check_nodes(
    config: Config,
    folder: Path,
    shared: bool,
    code_of: Sequence[str] = ("components.tune.trial",),
    needs: Needs | None = None,
) -> None:
    """Raises SeawayError that names a node with other code than this one's, or which does not see ``folder``.

    ``shared``: states of trials are kept in ``folder``, and not in object storage. ``code_of``: modules that run there
    beside the workload's model; ``needs``: only nodes that have so much are asked, by default what a trial needs.
    """
    import ray

    needs, modules = needs or Needs.of(config.workload.sweep.resources), [*code_of, config.workload.model]
    mark = folder / f".seen-{secrets.token_hex(4)}"
    mark.touch()
    code = source_hashes(modules, _roots(config))
    asked = {}
    try:
        for node in ray.nodes():
            if node["Alive"] and fits(node["Resources"], needs):
                where = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                look = ray.remote(_looker()).options(num_cpus=0, scheduling_strategy=where)
                asked[node["NodeManagerAddress"]] = look.remote(modules, str(config.root), str(mark))
        for name, answer in asked.items():
            try:
                found = ray.get(answer, timeout=LOOK_S)
            except ray.exceptions.RayError as error:
                raise SeawayError(f"node {name} of the Ray does not answer: {str(error).splitlines()[0]}") from error
            if found.get("error"):
                raise SeawayError(
                    f"node {name} of the Ray cannot load this project and the workload's model ({found['error']}): "
                    f"install the same on every node, the workload's folder at {config.root}"
                )
            other = sorted(f for f in code if found["code"].get(f) != code[f])
            if other:
                raise SeawayError(f"node {name} of the Ray has another {', '.join(other)}: install the same everywhere")
            if shared and not found["sees"]:
                raise SeawayError(
                    f"node {name} of the Ray does not see {folder}, where trials keep their states: set storage.uri, "
                    "or put `home` on a file system that all nodes share"
                )
    finally:
        mark.unlink(missing_ok=True)


def _roots(config: Config) -> list[Path]:
    return list(dict.fromkeys([project_root(), config.root]))


def _looker() -> Any:
    """A function that Ray carries whole, so that it can run where this project is not."""

    def look(modules: list[str], root: str, mark: str) -> dict[str, Any]:
        try:
            from pathlib import Path

            from seaway.closure import source_hashes
            from seaway.config import project_root
            from seaway.hooks import resolve

            for name in modules:
                resolve(name, Path(root))
            roots = list(dict.fromkeys([project_root(), Path(root)]))
            return {"code": source_hashes(modules, roots), "sees": Path(mark).exists()}
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}"}

    return look
