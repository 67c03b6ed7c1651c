"""What Feast's on-demand views call: the project's own evaluators on Feast's containers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from seaway.features import FeatureSpec, request_values, window_now
from seaway.online import history_features, parse_time


@lru_cache(maxsize=16)
def _spec(record: str) -> FeatureSpec:
    return FeatureSpec.from_record(json.loads(record))


def request_frame(record: str, inputs: pd.DataFrame) -> pd.DataFrame:
    """The request features of many rows, float32."""
    spec = _spec(record)
    columns = {r.column: inputs[r.column].to_numpy() for r in spec.requests if r.column != spec.time}
    if spec.time in inputs:
        columns[spec.time] = inputs[spec.time].to_numpy(dtype="datetime64[us]").astype(np.int64)
    return pd.DataFrame(request_values(spec, columns), index=inputs.index)


def request_vector(record: str, inputs: Mapping[str, Any]) -> dict[str, np.float32]:
    """All features of one request, from its inputs and the stored histories."""
    spec = _spec(record)
    now = parse_time(_moment(inputs[spec.time]))
    columns = {r.column: np.array([now if r.column == spec.time else inputs[r.column]]) for r in spec.requests}
    values = {name: column[0] for name, column in request_values(spec, columns).items()}
    for window in spec.windows:
        times, quanta = (np.array(inputs[n] or [], dtype=np.int64) for n in history_features(window))
        table = window_now(window, times, quanta, now, inputs.get(window.value))
        values |= {name: column[0] for name, column in table.items()}
    for latest in spec.latest:
        for name in latest.names:
            value = inputs.get(name)
            values[name] = np.float32(latest.default if value is None else value)
    return {name: values[name] for name in spec.names}


def _moment(value: Any) -> Any:
    """Feast hands whole seconds, text or a time, by the way the request came."""
    return value * 1_000_000 if isinstance(value, int) and abs(value) < 10**11 else value
