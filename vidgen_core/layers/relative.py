"""Biases of attention scores by how far apart two frames are."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["RelativeBias"]


class RelativeBias(nn.Module):
    """A learned number for each head and each bucket of signed distances. Raffel et al. 2019 (arXiv:1910.10683).

    Half of the buckets are for either direction; of those the first half are single distances, the others grow with
    the logarithm of the distance up to `farthest`, and the last is for all that is farther.
    """

    def __init__(self, heads: int, *, buckets: int = 32, farthest: int = 32) -> None:
        super().__init__()
        self.buckets, self.farthest = buckets, farthest
        self.table = nn.Parameter(torch.zeros(buckets, heads))

    def forward(self, frames: int) -> Float[Tensor, "1 heads frames frames"]:
        """Added to the score of frame i (row) looking at frame j (column)."""
        place = torch.arange(frames, device=self.table.device)
        bucket = self._bucket(place[None] - place[:, None])
        return self.table[bucket].permute(2, 0, 1)[None]

    def _bucket(self, distance: Tensor) -> Tensor:
        half = self.buckets // 2
        single = half // 2
        far = distance.abs()
        growth = (far.clamp_min(1) / single).log() / math.log(self.farthest / single)
        logarithmic = (single + growth * (half - single)).long().clamp_max(half - 1)
        return torch.where(far < single, far, logarithmic) + half * (distance > 0)
