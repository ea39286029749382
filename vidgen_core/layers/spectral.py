"""Spectral normalization: weights over their largest singular value. Miyato et al. 2018 (arXiv:1802.05957)."""

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

__all__ = ["normalized"]

L = TypeVar("L", bound=nn.Module)


class _OverLargestSingularValue(nn.Module):
    """A weight [out, ...] over the largest singular value of its [out, rest] form, found by power iteration.

    One iteration is made for each change of the weight, not for each pass: a batch that is cut into pieces meets the
    same weights as a whole one. A change is told by the sum of the weight, which a checkpoint keeps: a resumed run
    makes the iterations of an unbroken one.
    """

    left: Tensor
    seen: Tensor

    def __init__(self, weight: Tensor, *, start_iterations: int = 30) -> None:
        super().__init__()
        matrix = weight.detach().flatten(1)
        left = torch.randn(len(matrix), generator=torch.Generator().manual_seed(0)).to(matrix)
        for _ in range(start_iterations):
            left = _following(matrix, left)
        self.register_buffer("left", left)
        self.register_buffer("seen", matrix.sum())

    def forward(self, weight: Tensor) -> Tensor:
        """The weight, normalized."""
        matrix = weight.flatten(1)
        # A copy: passes whose gradients are still to come keep the vector that they used.
        left = self.left.clone()
        if self.training:
            now = matrix.detach().sum()
            left = torch.where(now == self.seen, left, _following(matrix.detach(), left))
            self.left.copy_(left)
            self.seen.copy_(now)
        right = nn.functional.normalize(matrix.detach().T @ left, dim=0)
        return weight / (left @ (matrix @ right))


def normalized(layer: L) -> L:
    """The layer with its weight normalized in every pass."""
    parametrize.register_parametrization(layer, "weight", _OverLargestSingularValue(layer.weight))  # type: ignore[arg-type]
    return layer


def _following(matrix: Tensor, left: Tensor) -> Tensor:
    """The left vector after one power iteration."""
    right = nn.functional.normalize(matrix.T @ left, dim=0)
    return nn.functional.normalize(matrix @ right, dim=0)
