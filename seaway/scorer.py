"""A model's scores by ONNX: one session and one way to ask it, for servers and for batches, so both give the same bits.

The bits of a row's score depend on how many rows are asked for at once: onnxruntime takes some functions, such as the
logarithm, four values at a time, and the rest of them by other instructions (differences of 2e-7 on the demo's model).
Asked in multiples of ``ROWS``, a row has the same score whatever its neighbours are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from seaway.errors import SeawayError

ROWS = 4


def session(model: bytes, width: int) -> Any:
    """An onnxruntime session of one thread; SeawayError when the model's input is not (rows, width)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    running = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    shape = running.get_inputs()[0].shape
    if len(shape) != 2 or shape[1] != width:
        raise SeawayError(f"model.onnx takes {shape}, the feature definitions give {width} features")
    return running


def scores(running: Any, features: np.ndarray) -> np.ndarray:
    """Probabilities (rows,) of raw float32 features (rows, features), each as if its row were asked for alone."""
    rows = len(features)
    missing = -rows % ROWS
    if missing:
        features = np.concatenate([features, np.repeat(features[-1:], missing, axis=0)])
    return running.run(["probability"], {"features": features})[0][:rows]
