"""Norms that compute in float32 whatever the precision around them."""

from torch import Tensor, nn

__all__ = ["RMSNorm"]


class RMSNorm(nn.RMSNorm):
    """Root-mean-square norm (Zhang and Sennrich 2019, arXiv:1910.07467) over the last axis; keeps the input's type."""

    def forward(self, x: Tensor) -> Tensor:
        """X / rms(x), times a weight if there is one."""
        return super().forward(x.float()).to(x.dtype)
