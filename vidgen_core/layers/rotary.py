"""Rotary positions of video tokens. Su et al. 2021, "RoFormer" (arXiv:2104.09864), with an own share for every axis."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Turns", "turned", "turns_at"]

# Cosines and sines [B, 1, tokens, dim / 2] of the angles by which pairs of a head's values are turned.
Turns = tuple[Tensor, Tensor]

_MAX_PERIOD = 100.0


def turns_at(
    frames: Float[Tensor, "batch frames"], rows: Float[Tensor, " height"], columns: Float[Tensor, " width"], dim: int
) -> Float[Tensor, "batch tokens half"]:
    """Angles of the tokens of a grid, for heads of a width `dim`: a quarter for time, the rest for rows and columns.

    Scores of turned queries and keys depend on how far apart two tokens are along each axis, not on where they are.
    """
    in_space = dim * 3 // 16
    grid = (*frames.shape, len(rows), len(columns), -1)
    angles = [
        _angles(frames, dim // 2 - 2 * in_space)[:, :, None, None].expand(grid),
        _angles(rows, in_space)[:, None].expand(grid),
        _angles(columns, in_space).expand(grid),
    ]
    return torch.cat(angles, dim=-1).flatten(1, 3)


def turned(x: Float[Tensor, "batch heads tokens dim"], turns: Turns | None) -> Float[Tensor, "batch heads tokens dim"]:
    """Pairs (value i, value i + dim / 2) turned by their angles; as it was without turns."""
    if turns is None:
        return x
    cosine, sine = turns
    left, right = x.float().chunk(2, dim=-1)
    return torch.cat([left * cosine - right * sine, left * sine + right * cosine], dim=-1).to(x.dtype)


def _angles(places: Tensor, count: int) -> Tensor:
    frequencies = torch.exp(-math.log(_MAX_PERIOD) * torch.arange(count, device=places.device) / max(count, 1))
    return places.float()[..., None] * frequencies
