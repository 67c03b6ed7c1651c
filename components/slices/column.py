"""Whether slices can be routed by the column that the workload names, as far as the definitions tell."""

from __future__ import annotations

from seaway.config import Workload
from seaway.errors import SeawayError
from seaway.features import FeatureSpec


def check_column(workload: Workload, spec: FeatureSpec) -> None:
    """SeawayError for a column by which a server could not route; a workload without slices is fine."""
    by = workload.slices.by if workload.slices else None
    if by is None:
        return
    if by not in (*spec.names, *spec.inputs):
        raise SeawayError(
            f"workload.slices.by is {by!r}, neither a feature nor an input: a server could not route by it. Add it to "
            f"the inputs of {spec.version}, or take one of {', '.join(spec.inputs)}"
        )
    if by == spec.time and by not in spec.names:
        raise SeawayError(
            f"workload.slices.by is {by!r}, the time of the events: take a column of numbers or texts, by which a "
            "server can route"
        )
