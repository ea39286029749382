"""Tensors of which each worker holds a part: torch's DTensor in, plain local tensors out, and back.

Whatever is done to each element alone is done to local tensors, which cost no dispatch; only what leaves the loop, such
as a checkpoint, is told how the parts belong together.
"""

import torch
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.distributed.tensor import DTensor, distribute_tensor

__all__ = ["group_of", "like", "local", "part_of", "whole"]


def local(tensor: Tensor) -> Tensor:
    """The part of this worker, sharing memory; the tensor itself where it is not split."""
    with torch.no_grad():
        return tensor.to_local() if isinstance(tensor, DTensor) else tensor.detach()


def like(part: Tensor, pattern: Tensor) -> Tensor:
    """A worker's part of a tensor that is split as `pattern` is; shares memory with the part."""
    if not isinstance(pattern, DTensor):
        return part
    mesh, placements = pattern.device_mesh, pattern.placements
    return DTensor.from_local(
        part, mesh, placements, run_check=False, shape=pattern.shape, stride=pattern.stride()
    )  # fmt: skip


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor; every worker must ask."""
    if not isinstance(tensor, DTensor):
        return tensor.detach()
    with torch.no_grad():
        return tensor.full_tensor()


def part_of(tensor: Tensor, pattern: Tensor) -> Tensor:
    """The part of this worker of a whole tensor, if it were split as `pattern` is."""
    if not isinstance(pattern, DTensor):
        return tensor
    # Every worker has the same whole tensor, so that nothing needs to be sent.
    return distribute_tensor(tensor, pattern.device_mesh, pattern.placements, src_data_rank=None).to_local()


def group_of(tensor: Tensor) -> ProcessGroup | None:
    """The workers among which a tensor is split; None where it is not."""
    return tensor.device_mesh.get_group(tensor.device_mesh.ndim - 1) if isinstance(tensor, DTensor) else None
