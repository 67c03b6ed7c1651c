"""From the configuration's search space to Optuna's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from seaway.config import Parameter
from seaway.errors import SeawayError


def distributions(space: Mapping[str, Parameter]) -> dict[str, Any]:
    """Optuna distributions by parameter name. Raises SeawayError that names a parameter without bounds."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    made: dict[str, Any] = {}
    for name, parameter in space.items():
        if parameter.kind == "choice":
            if not parameter.values:
                raise SeawayError(f"sweep.space.{name} is a choice without values: list them under `values`")
            made[name] = CategoricalDistribution(parameter.values)
            continue
        low, high = parameter.low, parameter.high
        if low is None or high is None or low > high or (parameter.kind == "log_float" and low <= 0):
            raise SeawayError(f"sweep.space.{name} ({parameter.kind}) needs low <= high, and low > 0 for log_float")
        if parameter.kind == "int":
            made[name] = IntDistribution(int(low), int(high))
        else:
            made[name] = FloatDistribution(low, high, log=parameter.kind == "log_float")
    return made


def example(space: Mapping[str, Any]) -> dict[str, Any]:
    """One point of the space that ``distributions`` made: first choices and lower bounds."""
    return {name: d.choices[0] if hasattr(d, "choices") else d.low for name, d in space.items()}


def middle(space: Mapping[str, Any]) -> dict[str, Any]:
    """The point in the middle of the space: of the logarithms where a parameter is searched so."""
    made: dict[str, Any] = {}
    for name, d in space.items():
        if hasattr(d, "choices"):
            made[name] = d.choices[(len(d.choices) - 1) // 2]
        elif getattr(d, "log", False):
            made[name] = math.sqrt(d.low * d.high)
        else:
            made[name] = type(d.low)((d.low + d.high) / 2)
    return made


def weight_shapes(
    build: Callable[..., Any], features: int
) -> Callable[[Mapping[str, Any]], dict[str, tuple[int, ...]]]:
    """A function from parameters to the shapes of the weights that a model of so many features has with them."""
    import numpy as np

    zeros, ones = np.zeros(features, dtype=np.float32), np.ones(features, dtype=np.float32)

    def shapes(params: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        return {name: tuple(tensor.shape) for name, tensor in build(params, zeros, ones).state_dict().items()}

    return shapes
