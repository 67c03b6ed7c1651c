"""Equal workers that train one model: each takes its part of every batch, and the gradients are added up.

Nothing here knows how the workers came together: an initialised ``torch.distributed`` is all that is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seaway.errors import SeawayError


@dataclass(frozen=True)
class Group:
    """This worker is ``rank`` (from 0) of ``size``. Tensors must lie where the backend wants them (NCCL: CUDA)."""

    rank: int
    size: int

    @classmethod
    def joined(cls) -> Group:
        """The group of this process."""
        import torch.distributed as dist

        return cls(dist.get_rank(), dist.get_world_size())

    def part(self, batch: Any) -> Any:
        """This worker's rows of a batch: parts differ by at most one row, and may be empty."""
        return batch.tensor_split(self.size)[self.rank]

    def sum_(self, tensor: Any) -> Any:
        """The sum over the workers, in place; the same bits for all of them."""
        import torch.distributed as dist

        dist.all_reduce(tensor)
        return tensor

    def first_(self, tensor: Any) -> Any:
        """What worker 0 has, in place."""
        import torch.distributed as dist

        dist.broadcast(tensor, 0)
        return tensor

    def sum_gradients(self, parameters: Iterable[Any]) -> None:
        """Add up the gradients, all in one message. A parameter that no worker used keeps none."""
        import torch

        mine = [p for p in parameters if p.requires_grad]
        used = torch.tensor([float(p.grad is not None) for p in mine], device=mine[0].device)
        flat = [(torch.zeros_like(p) if p.grad is None else p.grad).float().reshape(-1) for p in mine]
        whole = self.sum_(torch.cat([*flat, used]))
        at, some = 0, whole[-len(mine) :].tolist()
        for parameter, anyone in zip(mine, some, strict=True):
            values = whole[at : at + parameter.numel()].view_as(parameter).to(parameter.dtype)
            parameter.grad = values.clone() if anyone else None
            at += parameter.numel()

    def share_file(self, file: Path, device: str) -> None:
        """Give all workers worker 0's ``file``, or none where it has none: others need not see its disk."""
        import numpy as np
        import torch

        content = file.read_bytes() if self.rank == 0 and file.exists() else b""
        length = int(self.first_(torch.tensor([len(content)], device=device)))
        holder = torch.zeros(length, dtype=torch.uint8, device=device)
        if self.rank == 0 and length:
            holder.copy_(torch.from_numpy(np.frombuffer(content, dtype=np.uint8).copy()))
        if length:
            self.first_(holder)
        if self.rank:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.unlink(missing_ok=True)
            if length:
                file.write_bytes(holder.cpu().numpy().tobytes())


def check_rows_are_judged_alone(model: Any) -> None:
    """SeawayError for layers that look at the other rows of a batch: workers see only their own parts."""
    import torch

    found = [name for name, part in model.named_modules() if isinstance(part, torch.nn.modules.batchnorm._BatchNorm)]
    if found:
        raise SeawayError(
            f"training.workers is above 1, and the model normalises over a batch ({', '.join(found[:3])}), of which a "
            "worker sees only a part: use LayerNorm or GroupNorm, or set training.workers to 1"
        )
