"""What a run will take, before it begins: which steps are unchanged, and of the others what they took before."""

from __future__ import annotations

from graphlib import TopologicalSorter
from typing import Any

from components.base import ingredients
from components.steps import STEPS
from components.tune.budget import rates_of
from pipelines.costs import foretold, history
from seaway.cache import StepCache
from seaway.config import Config
from seaway.errors import SeawayError
from seaway.spend import Estimate

Wires = dict[str, dict[str, tuple[str, str]]]  # step -> input -> the step and output that it comes from


def estimate(config: Config, pipeline: Any, until: str = "", fresh: bool = False) -> Estimate:
    """Of ``pipeline``, up to the step ``until`` ("": all). ``fresh``: the last of them runs, unchanged or not.

    On a cluster all steps count: what is unchanged there is not looked for.
    """
    steps = wires(pipeline)
    if until:
        steps = {name: inputs for name, inputs in steps.items() if name in _before(until, steps)}
    same = () if config.pipeline.host else unchanged(config, steps)
    if fresh:
        same = tuple(name for name in same if name != until)
    records = history(config)
    made = tuple(foretold(name, config, records) for name in steps if name not in same)
    return Estimate(made, rates_of(config.budget), same)


def wires(pipeline: Any) -> Wires:
    """The steps of a compiled pipeline in an order in which they can run, with where their inputs come from."""
    tasks = pipeline.pipeline_spec.root.dag.tasks
    found: Wires = {}
    for name, task in tasks.items():
        sources = {key: item.task_output_artifact for key, item in task.inputs.artifacts.items()}
        found[name] = {key: (item.producer_task, item.output_artifact_key) for key, item in sources.items()}
    order = TopologicalSorter({name: {p for p, _ in inputs.values()} for name, inputs in sorted(found.items())})
    return {name: found[name] for name in order.static_order()}


def _before(step: str, steps: Wires) -> set[str]:
    return {step}.union(*(_before(producer, steps) for producer, _ in steps[step].values()))


def unchanged(config: Config, steps: Wires) -> tuple[str, ...]:
    """The steps whose result is stored on this machine for the code, parameters and inputs of now."""
    cache, outputs, found = StepCache(config.home / "cache"), {}, []
    for name, inputs in steps.items():
        if not all(source in outputs for source in inputs.values()):
            continue
        step = STEPS[name]
        try:
            what = ingredients(name, step, config, {key: outputs[source] for key, source in inputs.items()})
            manifest = cache.known(what)
            if manifest is None:
                continue
            folder = config.home / "cache" / name / what.key / "outputs"
            if step.holds and step.holds(config, {key: folder / key for key in manifest["outputs"]}):
                continue
        except (SeawayError, OSError):
            continue  # the step itself will say what is wrong
        found.append(name)
        outputs |= {(name, key): digest for key, digest in manifest["outputs"].items()}
    return tuple(found)
