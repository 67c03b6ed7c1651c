"""Each wrapper: a thin KFP component whose names are those of its step; and the table the cache works from."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

from components.base import ingredients
from components.steps import STEPS
from seaway.closure import source_hashes
from seaway.config import Config, Workload, load, project_root
from seaway.hooks import resolve

GIVEN = {"config", "workload", "root", "scale", "spec", "champion", "lineage"}  # bound by components.base


def wrapper(name):
    return getattr(importlib.import_module(f"components.{name}.component"), name)


@pytest.mark.parametrize("name", STEPS)
def test_a_wrapper_is_thin_and_its_names_are_the_steps(name):
    file = project_root() / "components" / name / "component.py"
    assert len(file.read_text().splitlines()) <= 30
    assert "from __future__" not in file.read_text()  # KFP cannot read annotations that are strings
    component = wrapper(name)
    assert component.description
    given = set(component.component_spec.inputs or {}) | set(component.component_spec.outputs)
    function = resolve(STEPS[name].function, project_root())
    asked = {p.name for p in inspect.signature(function).parameters.values() if p.default is p.empty}
    assert asked - GIVEN <= given, "an argument that nobody gives"


@pytest.mark.parametrize("name", STEPS)
def test_every_configuration_key_that_a_step_touches_is_declared(name):
    step = STEPS[name]
    touched = set()
    for file in source_hashes([step.function.partition(":")[0]], [project_root()]):
        if file.startswith("seaway/config/") or (file.endswith("/step.py") and file != f"components/{name}/step.py"):
            continue  # the configuration itself; another step, of which only names are imported
        text = (project_root() / file).read_text()
        touched |= {f"workload.{k}" for k in re.findall(r"\bworkload\.(\w+)", text) if k in Workload.model_fields}
        touched |= {k for k in re.findall(r"\bconfig\.(\w+)", text) if k in Config.model_fields}
    touched -= {"workload"}  # as a whole: its keys are listed
    # places decide nothing; of trials at a time and of the budget see the table
    touched -= {"home", "workload_file", "storage", "ray", "budget"}
    read = set(step.reads) | {key.partition(".")[0] for key in step.reads} | {f"workload.{hook}" for hook in step.hooks}
    assert touched <= read, f"{name} reads {sorted(touched - read)}: add them to components/steps.py"


def test_the_declared_sections_exist():
    config = load()
    for name, step in STEPS.items():
        if step.state is None:
            found = ingredients(name, step, config, {})
            assert all(any(key.startswith(section) for key in found.parameters) for section in step.reads)
            assert any(Path(file).name in ("step.py", f"{name}.py") for file in found.code)
            assert "uv.lock" in found.code


def test_the_workloads_own_code_counts_where_it_is_called():
    config = load()
    code = {name: ingredients(name, STEPS[name], config, {}).code for name in ("ingest", "features", "dataset", "tune")}
    assert "workload/simulator.py" in code["ingest"]
    assert "feature_repo/definitions.py" in code["features"]
    assert "workload/simulator.py" not in code["features"]
    assert "feature_repo/views.py" in code["dataset"]
    assert "workload/model.py" in code["tune"]


def test_a_steps_key_does_not_depend_on_places_or_on_sections_it_does_not_read(tmp_path):
    base = load(overrides={"home": str(tmp_path / "a")})
    other = load(
        overrides={"home": str(tmp_path / "b"), "release": {"rate": 5}, "workload": {"gates": {"bootstrap": 9}}}
    )
    for name in ("ingest", "features", "tune"):
        assert ingredients(name, STEPS[name], base, {}) == ingredients(name, STEPS[name], other, {})
    trials = load(overrides={"workload": {"sweep": {"trials": 3}}})
    before, after = (ingredients("tune", STEPS["tune"], c, {}) for c in (base, trials))
    assert after.difference(before) == "parameter changed: workload.sweep.trials 8 -> 3"
