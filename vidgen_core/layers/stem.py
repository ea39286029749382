"""Convolutions around a transformer: they draw what is finer than a token, and the transformer arranges it.

Tokens of a few latent pixels carry little about the outlines inside and across them. Xiao et al. 2021, "Early
Convolutions Help Transformers See Better" (arXiv:2106.14881), put convolutions before the first token; a denoiser also
needs them behind the last.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vidgen_core.layers.causal import SpaceConv
from vidgen_core.layers.flops import Flops, product
from vidgen_core.layers.norms import RMSNorm
from vidgen_core.layers.zeroed import zeroed

__all__ = ["ConvHead", "ConvStem"]

Features = Float[Tensor, "batch frames height width channels"]
Condition = Float[Tensor, "batch frames dim"]


class ConditionedBlock(nn.Module):
    """A residual block of two convolutions; a condition scales and shifts what is between them. Starts as identity."""

    def __init__(self, channels: int, condition_dim: int) -> None:
        super().__init__()
        self.norm_in = RMSNorm(channels)
        self.conv_in = SpaceConv(channels, channels)
        self.norm_between = RMSNorm(channels, elementwise_affine=False)
        self.modulation = zeroed(nn.Sequential(nn.SiLU(), nn.Linear(condition_dim, 2 * channels)))
        self.conv_out = zeroed(SpaceConv(channels, channels))

    def forward(self, x: Features, condition: Condition) -> Features:
        """One condition a frame; shape kept."""
        shift, scale = self.modulation(condition)[:, :, None, None].chunk(2, dim=-1)
        between = self.norm_between(self.conv_in(F.silu(self.norm_in(x)))) * (1 + scale) + shift
        return x + self.conv_out(F.silu(between))

    def flops(self, size: tuple[int, int, int]) -> Flops:
        """Of a video of so many (frames, height, width)."""
        return self.conv_in.flops(size) + self.conv_out.flops(size) + product(self.modulation[1], size[0])


class ConvStem(nn.Module):
    """Noisy latents to features of the same size."""

    def __init__(self, in_channels: int, channels: int, condition_dim: int) -> None:
        super().__init__()
        self.conv_in = SpaceConv(in_channels, channels)
        self.block = ConditionedBlock(channels, condition_dim)

    def forward(self, x: Float[Tensor, "batch in_channels frames height width"], condition: Condition) -> Features:
        """[B, C, T, H, W] to [B, T, H, W, channels]."""
        return self.block(self.conv_in(x.permute(0, 2, 3, 4, 1).contiguous()), condition)

    def flops(self, size: tuple[int, int, int]) -> Flops:
        """Of a video of so many (frames, height, width)."""
        return self.conv_in.flops(size).on_data + self.block.flops(size)


class ConvHead(nn.Module):
    """What the transformer put out, beside the stem's features, to a prediction; it starts as zero.

    A share of the noisy input, learned as a function of the noise time, is added: where there is little noise the
    prediction is the input but for a correction, which no stack of layers copies as exactly.
    """

    def __init__(self, channels: int, out_channels: int, condition_dim: int) -> None:
        super().__init__()
        self.join = SpaceConv(2 * channels, channels)
        self.block = ConditionedBlock(channels, condition_dim)
        self.conv_out = zeroed(SpaceConv(channels, out_channels))
        self.input_share = zeroed(nn.Sequential(nn.SiLU(), nn.Linear(condition_dim, out_channels)))

    def forward(
        self,
        tokens: Features,
        features: Features,
        condition: Condition,
        x: Float[Tensor, "batch out_channels frames height width"],
    ) -> Float[Tensor, "batch out_channels frames height width"]:
        """Two times [B, T, H, W, channels] and the noisy input [B, C, T, H, W] to [B, C, T, H, W]."""
        joined = self.block(self.join(torch.cat([tokens, features], dim=-1)), condition)
        share = self.input_share(condition).transpose(1, 2)[..., None, None]
        return self.conv_out(F.silu(joined)).permute(0, 4, 1, 2, 3) + share * x

    def flops(self, size: tuple[int, int, int]) -> Flops:
        """Of a video of so many (frames, height, width)."""
        convs = self.join.flops(size) + self.block.flops(size) + self.conv_out.flops(size)
        return convs + product(self.input_share[1], size[0])
