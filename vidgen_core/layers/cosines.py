"""Cosine transforms of video blocks. Ahmed, Natarajan and Rao 1974, "Discrete Cosine Transform"."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["cosine_basis"]

# Orthonormal opponent axes of red, green and blue: brightness and two color differences.
_COLOR_AXES = (
    (3**-0.5, 3**-0.5, 3**-0.5),
    (2**-0.5, 0.0, -(2**-0.5)),
    (6**-0.5, -2 * 6**-0.5, 6**-0.5),
)
# How much later than a spatial frequency an equally high temporal one, and any color difference, comes in the order.
_TIME_WEIGHT, _COLOR_COST = 1.5, 0.05


def cosine_basis(count: int, frames: int, height: int, width: int) -> Float[Tensor, "count values"]:
    """The first `count` orthonormal cosines over blocks of RGB video, most energetic in natural video first.

    Values are ordered like those of `patchify`: color, frame, row, column. Low frequencies come before high ones and
    brightness before color differences; `count` may not exceed the values of a block.
    """
    axes = [torch.tensor(_COLOR_AXES), _cosines(frames), _cosines(height), _cosines(width)]
    basis = torch.einsum("ia,jb,kc,ld->ijklabcd", *axes).flatten(4).flatten(0, 3)
    costs = [
        (row / height) ** 2 + (column / width) ** 2 + _TIME_WEIGHT * (frame / frames) ** 2 + _COLOR_COST * (color > 0)
        for color in range(3)
        for frame in range(frames)
        for row in range(height)
        for column in range(width)
    ]
    return basis[torch.tensor(costs, dtype=torch.float64).argsort(stable=True)[:count]]


def _cosines(size: int) -> Float[Tensor, "size size"]:
    frequency, place = torch.arange(size)[:, None], torch.arange(size)[None]
    waves = torch.cos(math.pi * (place + 0.5) * frequency / size) * math.sqrt(2 / size)
    waves[0] /= math.sqrt(2)
    return waves
