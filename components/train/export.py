"""From a trained torch module to a bundle: ONNX checked against torch, weights, and the record beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from seaway.artifacts import atomic_write, write_json
from seaway.errors import SeawayError
from seaway.features import FeatureSpec

CHECKED_ROWS = 10_000
MAX_DIFFERENCE = 1e-5
MAX_BATCH_DIFFERENCE = 1e-6
BACKGROUND_ROWS = 32


def session(model: Path | bytes) -> Any:
    """An onnxruntime session on one thread; raises SeawayError when the model cannot be loaded."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            str(model) if isinstance(model, Path) else model, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        what = model if isinstance(model, Path) else "the model"
        raise SeawayError(f"{what} cannot be loaded by onnxruntime: {error}") from error


def onnx_scores(running: Any, features: np.ndarray, batch: int = 8192) -> np.ndarray:
    """Probabilities float32 (n,) of raw features float32 (n, f)."""
    parts = [
        running.run(["probability"], {"features": np.ascontiguousarray(features[i : i + batch], dtype=np.float32)})[0]
        for i in range(0, len(features), batch)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)


def export(model: Any, features: int, file: Path, folded: bool = True) -> None:
    """Write ``model`` (raw float32 (n, f) to logits (n,)) as ONNX: "features" to "probability" (n,).

    ``folded``: what follows from the weights alone is computed now; else every weight stands in it under its name.
    """
    import logging
    import warnings

    import torch

    class Probability(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(self.model(features))

    whole = Probability().cpu().eval()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    with atomic_write(file) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            whole,
            (torch.zeros(2, features),),
            str(temporary),
            input_names=["features"],
            output_names=["probability"],
            dynamic_shapes={"features": {0: torch.export.Dim("rows")}},
            dynamo=True,
            external_data=False,
            optimize=folded,
            verbose=False,
        )


def check(model: Any, file: Path, features: np.ndarray) -> float:
    """Largest |ONNX - torch| over 10,000 rows drawn from ``features``.

    Raises SeawayError above 1e-5, or when a row scored alone differs by more than 1e-6 from the same row
    in a batch (then a served score would not be the evaluated one).
    """
    import torch

    running = session(file)
    draw = np.random.default_rng(0)
    rows = features[draw.choice(len(features), CHECKED_ROWS, replace=len(features) < CHECKED_ROWS)]
    served = onnx_scores(running, rows)
    with torch.inference_mode():
        wanted = torch.sigmoid(model.cpu().eval()(torch.from_numpy(rows))).numpy()
    difference = float(np.abs(served - wanted).max())
    if not difference <= MAX_DIFFERENCE:
        raise SeawayError(f"the exported model differs from torch by {difference:.2e}, more than {MAX_DIFFERENCE:.0e}")
    alone = np.concatenate([onnx_scores(running, rows[i : i + 1]) for i in range(200)])
    apart = float(np.abs(alone - served[:200]).max())
    if not apart <= MAX_BATCH_DIFFERENCE:
        raise SeawayError(f"a row's score depends on its batch ({apart:.2e} apart); the model must score rows singly")
    return difference


def write_bundle(
    out: Path,
    model: Any,
    spec: FeatureSpec,
    train_features: np.ndarray,
    *,
    workload: str,
    kind: str,
    params: dict[str, Any],
    threshold: float,
    metrics: dict[str, float],
    seed: int,
) -> float:
    """Write model.onnx, weights.safetensors and, last, model.json; the ONNX difference. SeawayError as ``check``."""
    from safetensors.torch import save

    out.mkdir(parents=True, exist_ok=True)
    export(model, len(spec.names), out / "model.onnx")
    difference = check(model, out / "model.onnx", train_features)
    with atomic_write(out / "weights.safetensors") as temporary:
        # not save_file: its files are for their owner alone, and a server may be another user
        temporary.write_bytes(save({k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}))
    draw = np.random.default_rng(seed)
    chosen = np.sort(draw.choice(len(train_features), min(BACKGROUND_ROWS, len(train_features)), replace=False))
    write_json(
        out / "model.json",
        {
            "workload": workload,
            "kind": kind,
            "params": params,
            "threshold": threshold,
            "features": spec.as_record(),
            "feature_hash": spec.hash,
            "background": [[float(v) for v in row] for row in train_features[chosen]],
            "reasons": spec.reasons(),
            "metrics": metrics,
            "onnx_max_difference": difference,
        },
    )
    return difference
