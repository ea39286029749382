"""Closed forms of diagonal Gaussians: likelihoods and divergences, in nats."""

import math

import torch
from torch import Tensor

__all__ = ["divergence", "drawn", "negative_log_likelihood"]


def negative_log_likelihood(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """-log N(x; mean, exp(log_variance)) of each element."""
    return 0.5 * ((x - mean) ** 2 * (-log_variance).exp() + log_variance + math.log(2 * math.pi))


def divergence(mean: Tensor, log_variance: Tensor, prior_mean: Tensor, prior_log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(prior_mean, exp(prior_log_variance))) of each element."""
    ratio = (log_variance - prior_log_variance).exp()
    distance = (mean - prior_mean) ** 2 * (-prior_log_variance).exp()
    return 0.5 * (prior_log_variance - log_variance + ratio + distance - 1)


def drawn(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """A draw of N(mean, exp(log_variance)) from standard normal noise, differentiable in both."""
    return mean + torch.exp(0.5 * log_variance) * noise
