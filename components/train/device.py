"""Where a training computes, and how precisely."""

from __future__ import annotations

from typing import Any

from seaway.errors import SeawayError


def pick_device(wanted: str) -> str:
    """``auto`` is CUDA where there is one. Raises SeawayError when CUDA is asked for and missing."""
    import torch

    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise SeawayError("compute.device is cuda, but torch sees no CUDA device; set it to auto or cpu")
    return "cuda" if wanted != "cpu" and available else "cpu"


def pick_dtype(precision: str, device: str) -> Any:
    """``auto`` is float32 on a CPU; on CUDA bfloat16, or float16 where it has none."""
    import torch

    if precision != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]
    if device == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
