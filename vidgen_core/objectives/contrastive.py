"""Telling the other view of the same sample from all views of others, over all workers."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from vidgen_core.layers.across import gathered, own_rows
from vidgen_core.shapes import PerSample

__all__ = ["info_nce"]


def info_nce(first: Float[Tensor, "batch dim"], second: Float[Tensor, "batch dim"], *, temperature: float) -> PerSample:
    """InfoNCE of two views of each sample, a value a sample: the sum of both sides.

    Each side is the cross-entropy of the other view among the other views of all samples and the same-side views of all
    other samples, by cosines over the temperature: 2N - 1 candidates for N samples on all workers. Chen et al. 2020
    (arXiv:2002.05709), eq. 1; Qian et al. 2021 (arXiv:2008.03800), eq. 1.
    """
    with torch.autocast(first.device.type, enabled=False):
        first, second = (F.normalize(side.float(), dim=1) for side in (first, second))
        all_first, all_second = gathered(first), gathered(second)
        return _side(first, all_second, all_first, temperature) + _side(second, all_first, all_second, temperature)


def _side(own: Tensor, others: Tensor, same: Tensor, temperature: float) -> Tensor:
    mine = own_rows(len(own))
    numbers = torch.arange(mine.start, mine.stop, device=own.device)
    itself = numbers[:, None] == torch.arange(len(same), device=own.device)
    among_same = (own @ same.T / temperature).masked_fill(itself, -torch.inf)
    logits = torch.cat([own @ others.T / temperature, among_same], dim=1)
    return F.cross_entropy(logits, numbers, reduction="none")
