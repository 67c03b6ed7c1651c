"""The layer contract names every module of the core, so that a new one cannot escape it."""

import tomllib

from seaway.config import project_root


def test_every_core_module_is_in_the_lowest_layer():
    root = project_root()
    contracts = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    lowest = set(contracts[0]["layers"][-1].split(" : "))
    modules = {f"seaway.{file.stem}" for file in (root / "seaway").glob("*.py")} - {"seaway.__init__"}
    rooms = {f"seaway.{file.parent.name}" for file in (root / "seaway").glob("*/__init__.py")} - {"seaway.cli"}
    assert lowest == modules | rooms
