"""Invertible layers with cheap Jacobians. Dinh et al. 2016, "Real NVP" (arXiv:1605.08803); Kingma and Dhariwal 2018,
"Glow" (arXiv:1807.03039), table 1.

Each maps x [B, C, T, H, W] to z of the same shape and the log determinant of its Jacobian [B], and back.
"""  # noqa: D205

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidgen_core.layers.flops import Flops, convolution, product
from vidgen_core.layers.zeroed import zeroed
from vidgen_core.shapes import Latents, PerSample

__all__ = ["AffineCoupling", "ChannelMix", "ChannelScale"]

Condition = Float[Tensor, "batch condition"]


class ChannelScale(nn.Module):
    """z = exp(s) (x + b), one s and b a channel; begins as the identity.

    Glow sets s and b by its first batch. Here they begin at 0: latents come with about zero mean and unit variance, and
    a run's start does not depend on its first batch, so neither on how many workers share it.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(channels, 1, 1, 1))
        self.shift = nn.Parameter(torch.zeros(channels, 1, 1, 1))

    def forward(self, x: Latents) -> tuple[Latents, PerSample]:
        """Scaled, and the log determinant."""
        log_volume = self.log_scale.sum() * math.prod(x.shape[2:])
        return (x + self.shift) * self.log_scale.exp(), log_volume.expand(len(x))

    def inverse(self, z: Latents) -> Latents:
        """The x of a z."""
        return z * (-self.log_scale).exp() - self.shift


class ChannelMix(nn.Module):
    """An invertible 1x1x1 convolution; begins as a rotation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linalg.qr(torch.randn(channels, channels)).Q.contiguous())

    def forward(self, x: Latents) -> tuple[Latents, PerSample]:
        """Mixed, and the log determinant."""
        log_volume = torch.linalg.slogdet(self.weight.float()).logabsdet * math.prod(x.shape[2:])
        # What a flow carries on is never rounded; half precision is for what its networks say of it.
        with torch.autocast(x.device.type, enabled=False):
            return torch.einsum("ij,bj...->bi...", self.weight, x), log_volume.expand(len(x))

    def flops(self, places: int) -> Flops:
        """Of so many places; the determinant, which no place adds to, is left out."""
        return Flops(2.0 * places * self.weight.numel())

    def inverse(self, z: Latents) -> Latents:
        """The x of a z."""
        return torch.einsum("ij,bj...->bi...", torch.linalg.inv(self.weight.float()), z)


class AffineCoupling(nn.Module):
    """Half of the channels move and scale the other half: z_b = sigmoid(s(x_a) + 2) (x_b + t(x_a)).

    Args:
        channels: Of x.
        hidden: Channels of the network that gives s and t.
        condition: Width of what s and t also read; 0 is nothing.

    """

    def __init__(self, channels: int, hidden: int, condition: int) -> None:
        super().__init__()
        self.kept = channels // 2
        moved = channels - self.kept
        self.first = nn.Conv3d(self.kept, hidden, 3, padding=1)
        self.condition = nn.Linear(condition, hidden) if condition else None
        self.middle = nn.Sequential(nn.SiLU(), nn.Conv3d(hidden, hidden, 1), nn.SiLU())
        self.last = zeroed(nn.Conv3d(hidden, 2 * moved, 3, padding=1))

    def forward(self, x: Latents, condition: Condition | None) -> tuple[Latents, PerSample]:
        """Coupled, and the log determinant."""
        kept, moved = x[:, : self.kept], x[:, self.kept :]
        log_scale, shift = self._given(kept, condition)
        return torch.cat([kept, log_scale.exp() * (moved + shift)], dim=1), log_scale.flatten(1).sum(1)

    def inverse(self, z: Latents, condition: Condition | None) -> Latents:
        """The x of a z."""
        kept, moved = z[:, : self.kept], z[:, self.kept :]
        log_scale, shift = self._given(kept, condition)
        return torch.cat([kept, moved * (-log_scale).exp() - shift], dim=1)

    def flops(self, places: int, *, said: bool) -> Flops:
        """Of so many places, with or without a condition."""
        total = convolution(self.first, places) + convolution(self.middle[1], places) + convolution(self.last, places)
        if self.condition is not None and said:
            total += product(self.condition, 1).on_data
        return total

    def _given(self, kept: Latents, condition: Condition | None) -> tuple[Latents, Latents]:
        hidden = self.first(kept)
        if self.condition is not None and condition is not None:
            hidden = hidden + self.condition(condition)[..., None, None, None]
        scale, shift = self.last(self.middle(hidden)).to(kept.dtype).chunk(2, dim=1)
        return nn.functional.logsigmoid(scale + 2), shift
