"""A model's scores by ONNX: one session and one way to ask it, for servers and for batches, so both give the same bits.

The bits of a row's score depend on how many rows are asked for at once: onnxruntime takes some functions, such as the
logarithm, four values at a time, and the rest of them by other instructions (differences of 2e-7 on the demo's model).
Asked in multiples of ``ROWS``, a row has the same score whatever its neighbours are.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from seaway.errors import SeawayError

ROWS = 4
_lock, _shared = threading.Lock(), []  # whether the process has an arena for all


def session(model: bytes, width: int, *, one_of_many: bool = False) -> Any:
    """An onnxruntime session of one thread; SeawayError when the model's input is not (rows, width).

    ``one_of_many``: it takes its memory from one arena of the process. Each session's own arena keeps as much as
    its largest request took, which hundreds of sessions need not do at once.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    if one_of_many:
        _share_arena(onnxruntime)
        options.add_session_config_entry("session.use_env_allocators", "1")
    running = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    shape = running.get_inputs()[0].shape
    if len(shape) != 2 or shape[1] != width:
        raise SeawayError(f"model.onnx takes {shape}, the feature definitions give {width} features")
    return running


def _share_arena(onnxruntime: Any) -> None:
    with _lock:
        if not _shared:
            kind = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
            memory = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, onnxruntime.OrtMemType.DEFAULT)
            onnxruntime.create_and_register_allocator(memory, onnxruntime.OrtArenaCfg(0, -1, -1, -1))
            _shared.append(True)


def scores(running: Any, features: np.ndarray) -> np.ndarray:
    """Probabilities (rows,) of raw float32 features (rows, features), each as if its row were asked for alone."""
    rows = len(features)
    missing = -rows % ROWS
    if missing:
        features = np.concatenate([features, np.repeat(features[-1:], missing, axis=0)])
    return running.run(["probability"], {"features": features})[0][:rows]
