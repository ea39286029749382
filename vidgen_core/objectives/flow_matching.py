"""The flow-matching objective. Lipman et al. 2022 (arXiv:2210.02747); times of Esser et al. 2024 (arXiv:2403.03206)."""

import torch
from torch import Tensor

from vidgen_core.chance import Chance
from vidgen_core.paths import shift_times

__all__ = ["logit_normal_times", "per_sample_mean"]


def logit_normal_times(chance: Chance, index: Tensor, *, mean: float, std: float, shift: float) -> Tensor:
    """T = sigmoid(N(mean, std^2)), then shifted toward noise: one time in (0, 1) for each sample, [B]."""
    return shift_times(torch.sigmoid(mean + std * chance.normal("time", index, ())), shift)


def per_sample_mean(values: Tensor) -> Tensor:
    """Mean over all axes but the first, in float32: [B]."""
    return values.float().flatten(1).mean(1)
