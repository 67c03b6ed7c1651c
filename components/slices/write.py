"""A slice model as ONNX without another export: the global model's graph with the slice's weights in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from components.train.export import MAX_DIFFERENCE, export, onnx_scores, session
from seaway.artifacts import atomic_write

ROWS = 256  # scored by both to see that they agree


def put_weights(template: bytes, model: Any) -> bytes | None:
    """``template`` with ``model``'s parameters and buffers; None when one of them is not in it under its name."""
    import onnx

    graph = onnx.load_model_from_string(template)
    places = {tensor.name: tensor for tensor in graph.graph.initializer}
    for name, value in model.state_dict().items():
        array = value.detach().cpu().contiguous().numpy()
        place = places.get(name) or places.get(f"model.{name}")
        if place is None or list(place.dims) != list(array.shape):
            return None
        place.CopyFrom(onnx.numpy_helper.from_array(array, place.name))
    return graph.SerializeToString()


def write_onnx(file: Path, template: bytes, model: Any, features: np.ndarray) -> tuple[float, bool]:
    """Write ``model`` to ``file``; the largest |ONNX - torch| on some rows, and whether it was exported anew.

    The template's graph may hold numbers that were computed from the weights when it was made, so what comes out
    is compared with torch; where it differs by more than an export may, the model is exported by itself.
    """
    import torch

    rows = np.ascontiguousarray(features[:ROWS], dtype=np.float32)
    with torch.inference_mode():
        wanted = torch.sigmoid(model.cpu().eval()(torch.from_numpy(rows))).numpy()
    data = put_weights(template, model)
    if data is not None:
        difference = float(np.abs(onnx_scores(session(data), rows) - wanted).max())
        if difference <= MAX_DIFFERENCE:
            with atomic_write(file) as temporary:
                temporary.write_bytes(data)
            return difference, False
    export(model, features.shape[1], file)
    return float(np.abs(onnx_scores(session(file), rows) - wanted).max()), True
