"""Which noise is paired with which sample."""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from vidgen_core.shapes import Index, Latents

__all__ = ["nearest"]


def nearest(noise: Latents, data: Latents) -> Index:
    """The order of `noise` in which the sum of its squared distances from `data` is least.

    That is optimal transport within a batch. Pooladian et al. 2023 (arXiv:2304.14772); Tong et al. 2023 (2302.00482).
    """
    # Squared norms are the same in every order, so only the products count.
    gains: Tensor = data.flatten(1).float() @ noise.flatten(1).float().T
    _, order = linear_sum_assignment(gains.detach().cpu().numpy(), maximize=True)
    return torch.from_numpy(order).to(noise.device)
