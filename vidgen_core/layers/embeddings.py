"""Sines and cosines for times and positions."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidgen_core.layers.flops import Flops, product

__all__ = ["TimeEmbedding", "positions_at", "sinusoids", "space_time_positions"]


def sinusoids(values: Tensor, dim: int, *, max_period: float = 10_000.0) -> Tensor:
    """Cosines and sines of `values` at geometric frequencies, [*values.shape, dim]; entries have scale 1."""
    half = dim // 2
    frequencies = torch.exp(-math.log(max_period) * torch.arange(half, device=values.device) / half)
    angles = values.float()[..., None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def space_time_positions(frames: int, height: int, width: int, dim: int) -> Float[Tensor, "frames height width dim"]:
    """Fixed positions of a grid, a third of the width an axis, scale 1.

    The scale matters: with learned positions of scale 0.02 the direction of motion stays at chance for thousands of
    steps, because the tokens' contents drown it.
    """
    return positions_at(torch.arange(frames), torch.arange(height), torch.arange(width), dim)


def positions_at(
    frames: Float[Tensor, "*batch frames"], rows: Float[Tensor, " height"], columns: Float[Tensor, " width"], dim: int
) -> Float[Tensor, "*batch frames height width dim"]:
    """The same at any places, fractions too; each sample of a batch may have frames of its own."""
    part = dim // 3 // 2 * 2
    in_time = sinusoids(frames, dim - 2 * part, max_period=100.0)[..., None, None, :]
    in_rows = sinusoids(rows, part, max_period=100.0)[:, None, :]
    in_columns = sinusoids(columns, part, max_period=100.0)
    grid = (*frames.shape, len(rows), len(columns))
    return torch.cat([axis.expand(*grid, -1) for axis in (in_time, in_rows, in_columns)], dim=-1)


class TimeEmbedding(nn.Module):
    """Noise time in [0, 1], of any shape, to a vector: sinusoids of 1000 t and a two-layer perceptron."""

    def __init__(self, dim: int, *, frequency_dim: int = 128) -> None:
        super().__init__()
        self.frequency_dim = frequency_dim
        self.mlp = nn.Sequential(nn.Linear(frequency_dim, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, t: Tensor) -> Tensor:
        """[...] to [..., dim]."""
        return self.mlp(sinusoids(1000.0 * t, self.frequency_dim))

    def flops(self, times: int) -> Flops:
        """Of so many times."""
        return product(self.mlp[0], times).on_data + product(self.mlp[2], times)
