"""Scalar conditions as vectors: sinusoids of their ranks, and a learned vector for each where it is missing."""

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidgen_core.layers.embeddings import sinusoids
from vidgen_core.layers.flops import Flops, product
from vidgen_core.scalars import Scalar

__all__ = ["ScalarEmbedding", "ranks"]

_SINUSOIDS = 64
# Radians from the lowest to the highest rank, of the fastest sinusoid; the slowest has a hundredth.
_FASTEST = 50.0


class ScalarEmbedding(nn.Module):
    """The sum of the vectors of some scalars.

    Args:
        scalars: Which there are, with their quantiles.
        dim: Width of a vector.

    """

    def __init__(self, scalars: Sequence[Scalar], dim: int) -> None:
        super().__init__()
        self._names = [scalar.name for scalar in scalars]
        self.known = nn.ModuleDict(
            {name: nn.Sequential(nn.Linear(_SINUSOIDS, dim), nn.SiLU(), nn.Linear(dim, dim)) for name in self._names}
        )
        self.missing = nn.ParameterDict({name: nn.Parameter(0.02 * torch.randn(dim)) for name in self._names})
        for scalar in scalars:
            self.register_buffer(f"quantiles_{scalar.name}", torch.tensor(scalar.quantiles), persistent=False)

    def forward(self, values: Mapping[str, Tensor], count: int) -> Float[Tensor, "batch dim"]:
        """Of `count` samples; a scalar is [B], NaN where it is missing, or not in `values` where all of it is."""
        return sum((self._one(name, values.get(name), count) for name in self._names), start=torch.zeros(()))

    def flops(self) -> Flops:
        """Of one sample that has all of them."""
        total = Flops()
        for known in cast("Iterable[nn.Sequential]", self.known.values()):
            total += product(known[0], 1).on_data + product(known[2], 1)
        return total

    def _one(self, name: str, values: Tensor | None, count: int) -> Tensor:
        missing = self.missing[name].expand(count, -1)
        if values is None:
            return missing
        told = ranks(values, self.get_buffer(f"quantiles_{name}"))
        known = self.known[name](sinusoids(_FASTEST * told, _SINUSOIDS, max_period=100.0))
        return torch.where(values.isnan()[:, None], missing, known)


def ranks(values: Float[Tensor, " batch"], quantiles: Float[Tensor, " places"]) -> Float[Tensor, " batch"]:
    """Values as ranks from 0 to 1, along straight lines between quantiles; 0 for NaN."""
    values = torch.where(values.isnan(), quantiles[0], values.float())
    above = torch.searchsorted(quantiles, values, right=True).clamp(1, len(quantiles) - 1)
    low, high = quantiles[above - 1], quantiles[above]
    part = ((values - low) / (high - low).clamp_min(torch.finfo(low.dtype).tiny)).clamp(0, 1)
    return (above - 1 + part) / (len(quantiles) - 1)
