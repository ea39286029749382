"""Spectral normalization: weights over their largest singular value. Miyato et al. 2018 (arXiv:1802.05957)."""

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

__all__ = ["normalized"]

L = TypeVar("L", bound=nn.Module)

_ITERATIONS = 15


class _OverLargestSingularValue(nn.Module):
    """A weight [out, ...] over the largest singular value of its [out, rest] form, found by power iteration.

    The usual form keeps a vector and adds one iteration to it in each pass, so that weights depend on how many passes
    there were. Here each pass starts from the same vector and iterates until it is close: what comes out depends on the
    weight alone, so pieces of a batch, a resumed run and averaged weights all meet what they should.
    """

    start: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        start = torch.randn(len(weight), generator=torch.Generator().manual_seed(0), device="cpu")
        self.register_buffer("start", F.normalize(start, dim=0).to(weight.device), persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight, normalized."""
        matrix = weight.flatten(1)
        with torch.no_grad():
            left = self.start
            for _ in range(_ITERATIONS):
                right = F.normalize(left @ matrix, dim=0)
                left = F.normalize(matrix @ right, dim=0)
        return weight / (left @ matrix @ right)


def normalized(layer: L) -> L:
    """The layer with its weight normalized in every pass."""
    parametrize.register_parametrization(layer, "weight", _OverLargestSingularValue(layer.weight))  # type: ignore[arg-type]
    return layer
