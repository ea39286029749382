"""Noise schedules of discrete diffusion: the variance beta_i that level i adds, float64 [levels]."""

import math

import torch
from torch import Tensor

__all__ = ["cosine", "linear", "scaled_linear", "shifted", "zero_terminal"]


def linear(levels: int = 1000, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """Evenly spaced. Ho et al. 2020 (arXiv:2006.11239), section 4."""
    return torch.linspace(first, last, levels, dtype=torch.float64)


def scaled_linear(levels: int = 1000, first: float = 0.00085, last: float = 0.012) -> Tensor:
    """Evenly spaced square roots. Rombach et al. 2022 (arXiv:2112.10752)."""
    return torch.linspace(first**0.5, last**0.5, levels, dtype=torch.float64) ** 2


def cosine(levels: int = 1000, offset: float = 0.008, largest: float = 0.999) -> Tensor:
    """What keeps cos^2 of the data's variance. Nichol and Dhariwal 2021 (arXiv:2102.09672), eq. 17."""
    places = (torch.arange(levels + 1, dtype=torch.float64) / levels + offset) / (1 + offset)
    kept = torch.cos(places * math.pi / 2) ** 2
    return (1 - kept[1:] / kept[:-1]).clamp_max(largest)


def shifted(betas: Tensor, by: float) -> Tensor:
    """With a signal-to-noise ratio that is smaller by this factor at each level.

    Hoogeboom et al. 2023, "simple diffusion" (arXiv:2301.11093), section 2.1; Yang et al. 2024, "CogVideoX"
    (arXiv:2408.06072). What a large picture or a clip shows outlives more noise than the pixels do.
    """
    kept = torch.cumprod(1 - betas, 0)
    return _of_kept(kept / (by + (1 - by) * kept))


def zero_terminal(betas: Tensor) -> Tensor:
    """Rescaled so that nothing is left of the data at the last level. Lin et al. 2023 (arXiv:2305.08891), algorithm 1.

    A prediction of the noise says nothing at that level: predict the data or v.
    """
    root = torch.cumprod(1 - betas, 0).sqrt()
    return _of_kept(((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2)


def _of_kept(kept: Tensor) -> Tensor:
    """Betas of given shares of variance that are left after each level."""
    before = torch.cat([kept.new_ones(1), kept[:-1]])
    return 1 - kept / before
