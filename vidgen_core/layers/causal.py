"""Convolutions over video that never look ahead: frame t of the output sees frames <= t of the input.

Everything here works on [batch, frames, height, width, channels]: norms and products then run along contiguous memory,
and a convolution in space takes PyTorch's channels-last kernels without a copy. Space and time are convolved in turn,
(1,3,3) then (3,1,1), which a CPU does several times faster than a dense three-dimensional kernel.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vidgen_core.layers.norms import RMSNorm
from vidgen_core.layers.zeroed import zeroed

__all__ = ["ResidualBlock", "SpaceConv", "SpaceUpsample", "TimeConv", "TimeUpsample"]

Features = Float[Tensor, "batch frames height width channels"]


class SpaceConv(nn.Module):
    """A 3 x 3 convolution inside each frame.

    Its weight is kept as the matrix [out_channels, 9 in_channels] that it is, so that optimizers for matrices take it.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        start = nn.Conv2d(in_channels, out_channels, 3)
        self.weight = nn.Parameter(start.weight.detach().flatten(1))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Features) -> Features:
        """[B, T, H, W, C] to [B, T, H / stride, W / stride, C']."""
        kernel = self.weight.unflatten(1, (-1, 3, 3))
        out = F.conv2d(x.flatten(0, 1).permute(0, 3, 1, 2), kernel, self.bias, self.stride, padding=1)
        return out.permute(0, 2, 3, 1).unflatten(0, x.shape[:2])


class TimeConv(nn.Module):
    """A causal convolution over three frames at each place; the past of the first frame is that frame itself.

    With stride 2, frames 1 + 2k become 1 + k, and the first output sees the first input alone.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.mix = nn.Linear(3 * in_channels, out_channels)

    def forward(self, x: Features) -> Features:
        """[B, T, H, W, C] to [B, 1 + (T - 1) / stride, H, W, C']."""
        padded = torch.cat([x[:, :1], x[:, :1], x], dim=1)
        frames = x.shape[1]
        taps = [padded[:, past : past + frames : self.stride] for past in range(3)]
        return self.mix(torch.cat(taps, dim=-1))


class TimeUpsample(nn.Module):
    """1 + k frames to 1 + 2k: the first stays one, each later frame becomes two, then a causal convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = TimeConv(channels, channels)

    def forward(self, x: Features) -> Features:
        """[B, T, H, W, C] to [B, 2 T - 1, H, W, C]."""
        return self.conv(x.repeat_interleave(2, dim=1)[:, 1:])


class SpaceUpsample(nn.Module):
    """Height and width doubled by nearest neighbor."""

    def forward(self, x: Features) -> Features:
        """[B, T, H, W, C] to [B, T, 2 H, 2 W, C]."""
        return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


class ResidualBlock(nn.Module):
    """Two normalized convolutions, one in space and one in time, beside the identity; it starts as the identity.

    The norm runs over channels at each place and time: a group norm would pool over frames and so make an early frame
    depend on later ones.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.space = nn.Sequential(RMSNorm(channels), SpaceConv(channels, channels), nn.SiLU())
        self.time = nn.Sequential(RMSNorm(channels), TimeConv(channels, channels), nn.SiLU())
        self.to_out = zeroed(nn.Linear(channels, channels))

    def forward(self, x: Features) -> Features:
        """[B, T, H, W, C], shape kept."""
        return x + self.to_out(self.time(self.space(x)))
