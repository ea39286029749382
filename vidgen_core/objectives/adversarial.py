"""Objectives of adversarial learning, on a critic's raw scores; each a value a sample, [B].

Critics score real and generated samples; what a critic minimizes and what its generator minimizes differ by name.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from vidgen_core.shapes import PerSample

__all__ = ["AdversarialLoss", "as_fake", "as_real", "gradient_length", "made_real"]

AdversarialLoss = Literal["hinge", "non_saturating", "least_squares", "wasserstein"]


def as_real(loss: AdversarialLoss, score: PerSample) -> PerSample:
    """What a critic minimizes on samples that it should call real.

    hinge: Lim and Ye 2017 (arXiv:1705.02894); non_saturating: Goodfellow et al. 2014 (arXiv:1406.2661), on logits;
    least_squares: Mao et al. 2016 (arXiv:1611.04076); wasserstein: Arjovsky et al. 2017 (arXiv:1701.07875).
    """
    if loss == "hinge":
        return F.relu(1 - score)
    if loss == "non_saturating":
        return F.softplus(-score)
    return 0.5 * (score - 1) ** 2 if loss == "least_squares" else -score


def as_fake(loss: AdversarialLoss, score: PerSample) -> PerSample:
    """What a critic minimizes on samples that it should call made."""
    if loss == "hinge":
        return F.relu(1 + score)
    if loss == "non_saturating":
        return F.softplus(score)
    return 0.5 * score**2 if loss == "least_squares" else score


def made_real(loss: AdversarialLoss, score: PerSample) -> PerSample:
    """What a generator minimizes, so that its samples are called real.

    For the hinge this is -score, not the critic's own relu(1 - score), which stops pushing once a sample convinces.
    """
    if loss in ("hinge", "wasserstein"):
        return -score
    return as_real(loss, score)


def gradient_length(score: PerSample, at: Tensor) -> PerSample:
    """Norm of the gradient of each sample's score with respect to the sample, differentiable in the critic's weights.

    Squared, times gamma/2 and on real samples it is R1 (Mescheder et al. 2018, arXiv:1801.04406); its squared distance
    from 1 between real and made ones is the gradient penalty (Gulrajani et al. 2017, arXiv:1704.00028).
    """
    (gradient,) = torch.autograd.grad(score.sum(), at, create_graph=True)
    return gradient.flatten(1).pow(2).sum(1).add(1e-12).sqrt()
