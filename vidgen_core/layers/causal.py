"""Convolutions over video that never look ahead: frame t of the output sees frames <= t of the input.

Everything here works on [batch, frames, height, width, channels]: norms and products then run along contiguous memory,
and a convolution in space takes PyTorch's channels-last kernels without a copy. Space and time are convolved in turn,
(1,3,3) then (3,1,1), which a CPU does several times faster than a dense three-dimensional kernel.

A long video may come in chunks: what a layer needs of the frames before a chunk it keeps in the `Past` that is passed
along, and the chunks' results are those of the whole video, one after the other.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Protocol, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vidgen_core.layers.flops import Flops, product
from vidgen_core.layers.norms import RMSNorm
from vidgen_core.layers.zeroed import zeroed

__all__ = [
    "Chain",
    "Past",
    "ResidualBlock",
    "Size",
    "SpaceConv",
    "SpaceUpsample",
    "TimeConv",
    "TimeUpsample",
    "sequence_flops",
]

Features = Float[Tensor, "batch frames height width channels"]
# (frames, height, width)
Size = tuple[int, int, int]
# What layers keep of the chunks of one video that they have seen; empty before the first.
Past = dict[nn.Module, Tensor]


class _Sized(Protocol):
    """A layer that knows what becomes of a video's size, and what that costs."""

    def after(self, size: Size) -> Size: ...

    def flops(self, size: Size) -> Flops: ...


def sequence_flops(layers: Iterable[nn.Module], size: Size) -> Flops:
    """Of layers of this file one after the other, from a video of one size on."""
    total = Flops()
    for layer in layers:
        sized = cast("_Sized", layer)
        total += sized.flops(size)
        size = sized.after(size)
    return total


class _InTime(nn.Module, ABC):
    """A layer whose result at a frame depends on frames before it."""

    @abstractmethod
    def forward(self, x: Features, past: Past | None = None) -> Features:
        """A whole video, or the next chunk of the one that `past` knows."""


class Chain(nn.Sequential, _InTime):
    """Layers one after the other, which pass the past along."""

    def forward(self, x: Features, past: Past | None = None) -> Features:
        """As its layers do."""
        for layer in self:
            x = layer(x, past) if isinstance(layer, _InTime) else layer(x)
        return x


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

    def after(self, size: Size) -> Size:
        """What a video of one size becomes."""
        frames, height, width = size
        return frames, -(-height // self.stride), -(-width // self.stride)

    def flops(self, size: Size) -> Flops:
        """Of a video that comes in with one size."""
        return Flops(2.0 * math.prod(self.after(size)) * self.weight.numel())


class TimeConv(_InTime):
    """A causal convolution over three frames at each place; the past of the first frame is that frame itself.

    With stride 2, frames 1 + 2k become 1 + k, and the first output sees the first input alone; chunks after the first
    have an even number of frames.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.mix = nn.Linear(3 * in_channels, out_channels)

    def forward(self, x: Features, past: Past | None = None) -> Features:
        """[B, T, H, W, C] to [B, 1 + (T - 1) / stride, H, W, C'], or T / stride frames of a later chunk."""
        known = None if past is None else past.get(self)
        before = (x[:, :1], x[:, :1]) if known is None else (known,)
        padded = torch.cat([*before, x], dim=1)
        if past is not None:
            past[self] = padded[:, -2:].clone()
        # Strided results stand at the even frames of the video, and a later chunk begins with an odd one.
        first, frames = 0 if known is None else self.stride - 1, x.shape[1]
        taps = [padded[:, tap + first : tap + frames : self.stride] for tap in range(3)]
        return self.mix(torch.cat(taps, dim=-1))

    def after(self, size: Size) -> Size:
        """What a video of one size becomes."""
        return 1 + (size[0] - 1) // self.stride, *size[1:]

    def flops(self, size: Size) -> Flops:
        """Of a video that comes in with one size."""
        return product(self.mix, math.prod(self.after(size)))


class TimeUpsample(_InTime):
    """1 + k frames to 1 + 2k: the first stays one, each later frame becomes two, then a causal convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = TimeConv(channels, channels)

    def forward(self, x: Features, past: Past | None = None) -> Features:
        """[B, T, H, W, C] to [B, 2 T - 1, H, W, C], or 2 T frames of a later chunk."""
        twice = x.repeat_interleave(2, dim=1)
        return self.conv(twice if past and self.conv in past else twice[:, 1:], past)

    def after(self, size: Size) -> Size:
        """What a video of one size becomes."""
        return 2 * size[0] - 1, *size[1:]

    def flops(self, size: Size) -> Flops:
        """Of a video that comes in with one size."""
        return self.conv.flops(self.after(size))


class SpaceUpsample(nn.Module):
    """Height and width doubled by nearest neighbor."""

    def forward(self, x: Features) -> Features:
        """[B, T, H, W, C] to [B, T, 2 H, 2 W, C]."""
        return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

    def after(self, size: Size) -> Size:
        """What a video of one size becomes."""
        return size[0], 2 * size[1], 2 * size[2]

    def flops(self, size: Size) -> Flops:
        """None: values are copied."""
        del size
        return Flops()


class ResidualBlock(_InTime):
    """Two normalized convolutions, one in space and one in time, beside the identity; it starts as the identity.

    The norm runs over channels at each place and time: a group norm would pool over frames and so make an early frame
    depend on later ones.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.space = nn.Sequential(RMSNorm(channels), SpaceConv(channels, channels), nn.SiLU())
        self.time = Chain(RMSNorm(channels), TimeConv(channels, channels), nn.SiLU())
        self.to_out = zeroed(nn.Linear(channels, channels))

    def forward(self, x: Features, past: Past | None = None) -> Features:
        """[B, T, H, W, C], shape kept."""
        return x + self.to_out(self.time(self.space(x), past))

    def after(self, size: Size) -> Size:
        """What a video of one size becomes: it keeps it."""
        return size

    def flops(self, size: Size) -> Flops:
        """Of a video of one size."""
        return sequence_flops([self.space[1], self.time[1]], size) + product(self.to_out, math.prod(size))
