"""Whitening by running statistics, so that no direction of features speaks louder in a cosine than another."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidgen_core.layers.across import gathered

__all__ = ["Whitening"]


class Whitening(nn.Module):
    """Features [B, dim] as they are while training, and otherwise with the covariance of training undone.

    A layer without learned weights: first and second moments are averaged over the steps of training and the samples
    of all workers, as a batch norm's statistics are. Zero-phase whitening by them follows (Ermolov et al. 2021,
    "Whitening for Self-Supervised Representation Learning", arXiv:2007.06346, who whiten each batch within the loss).
    Before the first step it changes next to nothing. A batch with a value that is not finite leaves the moments alone.

    Args:
        dim: Width of the features.
        shrinkage: How far correlations are drawn to none, in (0, 1], so that directions in which features hardly ever
            vary do not become noise; at 1 features are standardized.
        momentum: Weight of the newest batch.

    """

    running_mean: Tensor
    running_products: Tensor

    def __init__(self, dim: int, *, shrinkage: float, momentum: float = 0.02) -> None:
        super().__init__()
        self.shrinkage, self.momentum = shrinkage, momentum
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_products", torch.eye(dim))

    def forward(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        """Features; in training they and their gradient are what they were."""
        if self.training:
            self._note(gathered(x.detach().float()))
            return x
        with torch.autocast(x.device.type, enabled=False):
            return (x.float() - self.running_mean) @ self.matrix()

    @torch.no_grad()
    def matrix(self) -> Float[Tensor, "dim dim"]:
        """What centered features are multiplied by: deviations undone, then the root of the shrunk correlations."""
        mean, products = self.running_mean.double(), self.running_products.double()
        covariance = products - mean[:, None] * mean
        variance = covariance.diagonal()
        # A channel that is always the same stays at zero instead of being made loud.
        scale = variance.clamp(min=1e-6 * float(variance.mean())).rsqrt()
        correlation = scale[:, None] * covariance * scale
        at_rest = torch.eye(len(mean), dtype=correlation.dtype, device=correlation.device)
        values, vectors = torch.linalg.eigh(torch.lerp(correlation, at_rest, self.shrinkage))
        root = (vectors * values.clamp(min=1e-3 * self.shrinkage).rsqrt()) @ vectors.T
        return (scale[:, None] * root).to(self.running_mean.dtype)

    @torch.no_grad()
    def _note(self, x: Tensor) -> None:
        mean, products = x.mean(0), x.T @ x / len(x)
        rate = self.momentum * (torch.isfinite(mean).all() & torch.isfinite(products).all())
        for kept, fresh in ((self.running_mean, mean), (self.running_products, products)):
            kept.lerp_(torch.nan_to_num(fresh, 0.0, 0.0, 0.0), rate)
