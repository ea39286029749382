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
    same weights as a whole one.
    """

    left: Tensor

    def __init__(self, weight: Tensor, *, start_iterations: int = 30) -> None:
        super().__init__()
        matrix = weight.detach().flatten(1)
        left = torch.randn(len(matrix), generator=torch.Generator().manual_seed(0)).to(matrix)
        for _ in range(start_iterations):
            left = _following(matrix, left)
        self.register_buffer("left", left)
        self._seen = weight._version

    def forward(self, weight: Tensor) -> Tensor:
        """The weight, normalized."""
        matrix = weight.flatten(1)
        if self.training and weight._version != self._seen:
            self._seen = weight._version
            self.left.copy_(_following(matrix.detach(), self.left))
        right = nn.functional.normalize(matrix.detach().T @ self.left, dim=0)
        return weight / (self.left @ (matrix @ right))


def normalized(layer: L) -> L:
    """The layer with its weight normalized in every pass."""
    parametrize.register_parametrization(layer, "weight", _OverLargestSingularValue(layer.weight))  # type: ignore[arg-type]
    return layer


def _following(matrix: Tensor, left: Tensor) -> Tensor:
    """The left vector after one power iteration."""
    right = nn.functional.normalize(matrix.T @ left, dim=0)
    return nn.functional.normalize(matrix @ right, dim=0)
