"""A slice model as ONNX without another export: one graph for all, with the slice's weights in it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from components.train.export import MAX_DIFFERENCE, export, onnx_scores, session

ROWS = 256  # scored by both to see that they agree


def template_of(model: Any, features: int) -> bytes:
    """A graph of ``model``'s kind in which every weight stands as it is, for the weights of others."""
    with tempfile.TemporaryDirectory(prefix="seaway-slice-") as folder:
        export(model, features, Path(folder) / "model.onnx", folded=False)
        return (Path(folder) / "model.onnx").read_bytes()


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


def as_onnx(template: bytes, model: Any, features: np.ndarray) -> tuple[bytes, float, bool]:
    """``model`` as ONNX, the largest |ONNX - torch| on some rows, and whether it was exported anew.

    The template's graph may still hold numbers that followed from other weights, so what comes out is compared with
    torch; where it differs by more than an export may, the model is exported by itself, which takes seconds. Raises
    ValueError when that one does not score as torch does either.
    """
    import torch

    rows = np.ascontiguousarray(features[:ROWS], dtype=np.float32)
    with torch.inference_mode():
        wanted = torch.sigmoid(model.cpu().eval()(torch.from_numpy(np.array(rows)))).numpy()
    data = put_weights(template, model)
    if data is not None and (difference := _apart(data, rows, wanted)) <= MAX_DIFFERENCE:
        return data, difference, False
    with tempfile.TemporaryDirectory(prefix="seaway-slice-") as folder:
        export(model, features.shape[1], Path(folder) / "model.onnx")
        data = (Path(folder) / "model.onnx").read_bytes()
    difference = _apart(data, rows, wanted)
    if not difference <= MAX_DIFFERENCE:
        raise ValueError(f"its export differs from torch by {difference:.2e}, more than {MAX_DIFFERENCE:.0e}")
    return data, difference, True


def _apart(data: bytes, rows: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(onnx_scores(session(data), rows) - wanted).max())
