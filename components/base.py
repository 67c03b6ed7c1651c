"""What a KFP wrapper calls: run one step by name, or take its stored result.

Arguments are bound by name: ``config``, ``workload``, ``root``, ``scale`` and ``spec`` come from the
configuration, ``champion`` and ``lineage`` from the registry, the others are the wrapper's paths.
"""

from __future__ import annotations

import inspect
import os
import sys
import time
from pathlib import Path
from typing import Any

from components.steps import STEPS, Step
from seaway import alive, progress
from seaway.cache import Ingredients, StepCache, hashes, place
from seaway.closure import source_hashes
from seaway.config import Config, Section, project_root
from seaway.errors import SeawayError
from seaway.hooks import resolve
from seaway.storage import Storage

IMAGE = "seaway-train:dev"  # replaced by the configuration's when the pipeline is compiled


def run_step(
    name: str,
    config: str,
    inputs: dict[str, Any] | None = None,
    outputs: dict[str, Any] | None = None,
    run: str = "",
) -> None:
    """Run the step ``name``, or skip it when a stored result for the same code, parameters and inputs exists.

    ``config`` is the resolved configuration as JSON; ``inputs`` and ``outputs`` are KFP artifacts by the
    names of the step's parameters; ``run`` is the run's id. Ends the process with 1 on a SeawayError,
    after reporting its text; any other error is reported and raised.
    """
    os.environ[progress.STEP_VARIABLE] = name
    alive.end_with_owner()
    sys.stdout.reconfigure(line_buffering=True)  # a killed step must not leave an empty log
    paths = {key: Path(artifact.path) for key, artifact in (inputs or {}).items()}
    targets = {key: Path(artifact.path) for key, artifact in (outputs or {}).items()}
    started = time.monotonic()
    try:
        result = perform(name, Config.model_validate_json(config), paths, targets, run)
    except SeawayError as error:
        progress.emit("fail", text=str(error), seconds=time.monotonic() - started)
        sys.exit(1)
    except BaseException as error:
        progress.emit("fail", text=f"{type(error).__name__}: {error}", unexpected=True)
        raise
    for artifact in (outputs or {}).values():
        artifact.metadata |= {"key": result["key"], "status": result["status"], "summary": result["summary"]}
    progress.emit("end", outputs=targets, **result)


def perform(
    name: str, config: Config, inputs: dict[str, Path], outputs: dict[str, Path], run: str = ""
) -> dict[str, Any]:
    """Run or skip a step; gives its status, reason, key, summary and seconds."""
    started = time.monotonic()
    step = STEPS[name]
    cache = StepCache(config.home / "cache", remote=Storage.of(config), warn=progress.say)
    input_hashes = hashes(inputs)
    what = ingredients(name, step, config, input_hashes)
    entry = cache.find(what)
    gone = step.holds(config, entry.outputs) if entry and step.holds else ""
    if gone:
        cache.discard(what)
        entry = None
    reason = gone or cache.explain(what, hit=entry is not None)
    progress.emit("reason", reason=reason, skipped=entry is not None)
    status = "skipped" if entry else "done"
    if entry:
        cache.note(what)
    else:
        work = cache.begin(what)
        made = {key: work / "outputs" / key for key in outputs}
        try:
            summary = _call(name, step, config, inputs | made, input_hashes, run)
        except SeawayError:
            for key, path in made.items():  # such as a quarantine file, to look at
                place(path, outputs[key])
            raise
        entry = cache.store(what, work, list(outputs), summary or {}, time.monotonic() - started)
    for key, path in entry.outputs.items():
        place(path, outputs[key])
    seconds = time.monotonic() - started
    return {
        "status": status, "reason": reason, "key": what.key, "summary": entry.summary,
        "seconds": round(seconds, 3), "work_seconds": round(entry.seconds, 3),
    }  # fmt: skip


def ingredients(name: str, step: Step, config: Config, inputs: dict[str, str]) -> Ingredients:
    """All that decides the step's result."""
    roots = list(dict.fromkeys([project_root(), config.root]))
    code = source_hashes([step.function.partition(":")[0], *_hooks(step, config)], roots)
    lock = project_root() / "uv.lock"
    code |= hashes({lock.name: lock}) if lock.exists() else {}
    parameters: dict[str, Any] = {}
    for section in step.reads:
        value: Any = config
        for part in section.split("."):
            value = getattr(value, part)
        parameters |= _flat(section, value)
    parameters |= step.state(config, inputs) if step.state else {}
    return Ingredients(name, code, parameters, inputs)


def _hooks(step: Step, config: Config) -> list[str]:
    """The modules of the workload's own code that the step calls."""
    workload, modules = config.workload, []
    for hook in step.hooks:
        if hook == "generators":
            modules += [s.generator.partition(":")[0] for s in workload.sources.values() if s.generator]
        elif hook == "feature_repo":
            folder = config.root / workload.feature_repo
            package = ".".join(Path(workload.feature_repo).parts)
            modules += [f"{package}.{file.stem}" for file in sorted(folder.glob("*.py"))]
        else:
            modules.append(getattr(workload, hook).partition(":")[0])
    return modules


def _flat(name: str, value: Any) -> dict[str, Any]:
    """Sections and dicts as dotted keys of JSON values."""
    if isinstance(value, Section):
        value = value.model_dump(mode="json")
    if isinstance(value, dict) and value:
        return {k: v for key, item in value.items() for k, v in _flat(f"{name}.{key}", item).items()}
    if isinstance(value, tuple):
        return {name: [item.model_dump(mode="json") if isinstance(item, Section) else item for item in value]}
    return {name: value}


def _call(
    name: str, step: Step, config: Config, paths: dict[str, Path], input_hashes: dict[str, str], run: str
) -> dict[str, Any]:
    function = resolve(step.function, project_root())
    known: dict[str, Any] = {
        "config": lambda: config,
        "workload": lambda: config.workload,
        "root": lambda: config.root,
        "storage": lambda: Storage.of(config),
        "scale": lambda: config.scale,
        "spec": lambda: resolve(config.workload.features, config.root),
        "champion": lambda: _champion(config, paths, input_hashes),
        "lineage": lambda: _lineage(config, input_hashes, run),
    }
    arguments = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in paths:
            arguments[parameter.name] = paths[parameter.name]
        elif parameter.name in known:
            arguments[parameter.name] = known[parameter.name]()
        elif parameter.default is parameter.empty:
            raise TypeError(f"the step {name} asks for {parameter.name!r}, which no wrapper gives")
    return function(**arguments)


def _champion(config: Config, paths: dict[str, Path], input_hashes: dict[str, str]) -> Path | None:
    """The bundle to beat, checked: before there is a champion, the baseline, which register makes the first one.

    SeawayError for a champion that is not the signed bundle that was registered.
    """
    from seaway.bundles import local_copy
    from seaway.registry import SIGNED, Registry

    registry = Registry.of(config)
    if record := registry.rival(input_hashes["model"]):
        record = registry.signed(record)
        return local_copy(config, record.bundle, record.tags.get(SIGNED, ""))
    baseline = paths["model"] / "baseline"
    return baseline if baseline.is_dir() else None


def _lineage(config: Config, input_hashes: dict[str, str], run: str) -> dict[str, Any]:
    from seaway.lineage import collect

    spec = resolve(config.workload.features, config.root)
    return collect(config, spec, run=run, data=input_hashes["raw"], dataset=input_hashes["dataset"],
                   model=input_hashes["model"])  # fmt: skip
