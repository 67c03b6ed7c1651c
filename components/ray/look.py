"""What a RayJob's object says of the job, in our words; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from components.ray.rayjob import QUEUE, kind

WAITING, RUNNING, SUSPENDED, SUCCEEDED, FAILED, ENDING = (
    "waiting", "running", "suspended", "succeeded", "failed", "ending",
)  # fmt: skip
OVER = (SUCCEEDED, FAILED)
_LAST_LINES = 12


@dataclass(frozen=True)
class Look:
    """``taken``: an operator has seen the object. ``reason``: the operator's word for a failure, such as AppFailed."""

    state: Literal["waiting", "running", "suspended", "succeeded", "failed", "ending"]
    text: str
    reason: str = ""
    taken: bool = True


def look(job: Mapping[str, Any]) -> Look:
    """The state of a RayJob (KubeRay 1.7's status) and a line for a person."""
    spec, status = job.get("spec", {}), job.get("status", {})
    deployment, state = status.get("jobDeploymentStatus", ""), status.get("jobStatus", "")
    reason, message = status.get("reason", ""), _last_lines(status.get("message", ""))
    if job["metadata"].get("deletionTimestamp"):
        return Look(ENDING, "the RayJob is being deleted")
    if deployment in ("Failed", "ValidationFailed") or (deployment == "Complete" and state != "SUCCEEDED"):
        return Look(FAILED, message or f"it ended as {state or deployment}", reason or deployment)
    if deployment == "Complete":
        return Look(SUCCEEDED, f"{kind(job).called}'s job has ended")
    if spec.get("suspend") or deployment in ("Suspended", "Suspending"):
        queue = job["metadata"].get("labels", {}).get(QUEUE)
        return Look(
            SUSPENDED, f"suspended: it waits in the queue {queue}" if queue else "suspended: somebody holds it back"
        )
    if deployment == "Running":
        running = state == "RUNNING"
        return Look(RUNNING if running else WAITING, "running" if running else "the cluster is up; the job starts")
    if not deployment:
        return Look(WAITING, "no operator has taken it up yet", taken=False)
    return Look(WAITING, _cluster(status.get("rayClusterStatus", {})))


def _cluster(status: Mapping[str, Any]) -> str:
    """What the Ray cluster still lacks."""
    for condition in status.get("conditions", []):
        if condition.get("type") == "HeadPodReady" and condition.get("status") != "True":
            return f"the head is not ready: {condition.get('message') or condition.get('reason')}"
    ready, wanted = status.get("readyWorkerReplicas", 0), status.get("desiredWorkerReplicas")
    return f"the Ray cluster starts: {ready} of {wanted} workers are ready" if wanted else "the Ray cluster starts"


def _last_lines(text: str) -> str:
    lines = [line.rstrip() for line in text.strip().splitlines() if line.strip()]
    return "\n".join(lines[-_LAST_LINES:])
