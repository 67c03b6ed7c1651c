"""Reading a run's tasks as the Kubeflow Pipelines API tells them: which belong to a step, and which pods are its.

The API lists the nodes of the Argo workflow: for the step ``x`` a driver ``x-driver``, a group ``x`` and in it
``executor``. Its pods are not named, so that their names are derived as Argo derives them (node id and pod name end
in the same hash of the node's path); where the group's child does not have the expected hash, none is named.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kfp_server_api import V2beta1PipelineTaskDetail, V2beta1Run

FINAL = ("SUCCEEDED", "SKIPPED", "FAILED", "CANCELED")
_DRIVER, _ROOT = "-driver", "root"


@dataclass(frozen=True)
class StepState:
    """A step as the API tells it. ``pods``: of its attempts, the first first. ``seconds``: 0 while it runs."""

    name: str
    state: str
    seconds: float
    pods: tuple[str, ...]


def steps(run: V2beta1Run) -> list[StepState]:
    """The steps that have begun, in the order in which they began."""
    tasks = (run.run_details and run.run_details.task_details) or []
    drivers = {t.display_name for t in tasks if t.display_name and t.display_name.endswith(_DRIVER)}
    groups = [t for t in tasks if f"{t.display_name}{_DRIVER}" in drivers and t.display_name != _ROOT]
    groups.sort(key=lambda t: t.start_time.timestamp() if t.start_time else 0.0)
    templates = _templates(run.pipeline_spec or {})
    return [StepState(t.display_name, t.state or "", _seconds(t), _pods(t, templates)) for t in groups]


def failed_driver(run: V2beta1Run) -> str:
    """The step whose driver failed, so that its pod was never made; empty when none did."""
    tasks = (run.run_details and run.run_details.task_details) or []
    for task in tasks:
        if task.state == "FAILED" and (task.display_name or "").endswith(_DRIVER):
            return task.display_name.removesuffix(_DRIVER)
    return ""


def _seconds(task: V2beta1PipelineTaskDetail) -> float:
    if task.state not in FINAL or not task.start_time or not task.end_time:  # not over: the end is year 1
        return 0.0
    return max((task.end_time - task.start_time).total_seconds(), 0.0)


def _pods(group: V2beta1PipelineTaskDetail, templates: dict[str, tuple[str, int | None]]) -> tuple[str, ...]:
    template, retries = templates.get(group.display_name, ("system-container-impl", None))
    for child in group.child_tasks or []:
        workflow, _, number = (child.pod_name or "").rpartition("-")
        node = f"{workflow}.{_ROOT}.{group.display_name}.executor"
        if number != str(_fnv(node)):
            continue
        attempts = [node] if retries is None else [f"{node}({n})" for n in range(retries + 1)]
        return tuple(f"{workflow}-{template}-{_fnv(attempt)}" for attempt in attempts)
    return ()


def _templates(whole: dict[str, Any]) -> dict[str, tuple[str, int | None]]:
    """By task: the template of its pods, named as the API server names it, and how often it is tried again."""
    spec = whole.get("pipeline_spec", whole)
    platform = whole.get("platform_spec", {}).get("platforms", {}).get("kubernetes", {})
    executors = platform.get("deploymentSpec", {}).get("executors", {})
    found = {}
    for name, task in spec.get("root", {}).get("dag", {}).get("tasks", {}).items():
        component = spec["components"].get(task["componentRef"]["name"], {})
        template, policy = "system-container-impl", task.get("retryPolicy")
        if policy is not None:
            template = f"retry-{template}"
        metadata = executors.get(component.get("executorLabel"), {}).get("podMetadata")
        if metadata is not None:
            counts = (len(metadata.get(kind, {})) for kind in ("annotations", "labels"))
            template = f"metadata-{'-'.join(map(str, counts))}-{template}"
        found[name] = template, None if policy is None else int(policy.get("maxRetryCount", 0))
    return found


def _fnv(text: str) -> int:
    """FNV-1a, 32 bits: what Argo hashes a node's path with."""
    value = 0x811C9DC5
    for byte in text.encode():
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value
