"""A residual network inflated to three dimensions, as in contrastive learning of video. Qian et al. 2021, "CVRL"
(arXiv:2008.03800), table 1: a ResNet-50 whose last two stages also look along time. Nothing is strided in time.
"""  # noqa: D205

import math
from collections.abc import Sequence
from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vidgen_core.interfaces import Frozen
from vidgen_core.layers.across import BatchNorm
from vidgen_core.layers.flops import Flops, convolution

__all__ = ["R3D", "Config"]

Size = tuple[int, int, int]


class Config(Frozen):
    """Sizes of the network.

    Args:
        widths: Channels of the middle convolution of each stage's blocks.
        blocks: Blocks of each stage; every stage but the first halves height and width.
        time_kernels: Length in time of the first convolution of each stage's blocks.
        expansion: Channels that leave a block over its width.
        stem: (time, space) of the first convolution's kernel.
        stem_stride: Of the first convolution in space.
        pooled: Whether a maximum over 3 x 3, strided by 2, follows it.

    """

    widths: tuple[int, ...] = (64, 128, 256, 512)
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    time_kernels: tuple[int, ...] = (1, 1, 3, 3)
    expansion: int = 4
    stem: tuple[int, int] = (5, 7)
    stem_stride: int = 2
    pooled: bool = True

    def build(self, channels: int = 3) -> "R3D":
        """The untrained network, for video of so many channels."""
        return R3D(self, channels)


class Block(nn.Module):
    """Convolutions along time, over space, and of channels alone, beside a shortcut."""

    def __init__(self, channels: int, width: int, config: Config, *, time: int, stride: int) -> None:
        super().__init__()
        out = width * config.expansion
        self.first, self.first_norm = _conv(channels, width, (time, 1, 1)), BatchNorm(width)
        self.second, self.second_norm = _conv(width, width, (1, 3, 3), stride), BatchNorm(width)
        self.third, self.third_norm = _conv(width, out, (1, 1, 1)), BatchNorm(out)
        changes = stride > 1 or channels != out
        self.shortcut = _conv(channels, out, (1, 1, 1), stride) if changes else None
        self.shortcut_norm = BatchNorm(out) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, T, H, W] to [B, C', T, H / stride, W / stride]."""
        beside = x
        if self.shortcut is not None and self.shortcut_norm is not None:
            beside = self.shortcut_norm(self.shortcut(x))
        x = F.relu(self.first_norm(self.first(x)))
        x = F.relu(self.second_norm(self.second(x)))
        return F.relu(self.third_norm(self.third(x)) + beside)

    def flops(self, size: Size) -> tuple[Flops, Size]:
        """Of one clip of (frames, height, width), and what these are after it."""
        after = _strided(size, self.second.stride[1])
        total = convolution(self.first, math.prod(size)) + convolution(self.second, math.prod(after))
        total += convolution(self.third, math.prod(after))
        if self.shortcut is not None:
            total += convolution(self.shortcut, math.prod(after))
        return total, after


class R3D(nn.Module):
    """Video [B, C, T, H, W] to features [B, dim], averaged over space and time."""

    def __init__(self, config: Config, video_channels: int) -> None:
        super().__init__()
        self.config = config
        time, space = config.stem
        self.stem = _conv(video_channels, config.widths[0], (time, space, space), config.stem_stride)
        self.stem_norm = BatchNorm(config.widths[0])
        channels, made = config.widths[0], []
        stages = zip(config.widths, config.blocks, config.time_kernels, strict=True)
        for stage, (width, count, kernel) in enumerate(stages):
            for place in range(count):
                stride = 2 if stage > 0 and place == 0 else 1
                made.append(Block(channels, width, config, time=kernel, stride=stride))
                channels = width * config.expansion
        self.blocks = nn.ModuleList(made)
        self.dim = channels
        self.stage_dims = tuple(width * config.expansion for width in config.widths)

    def forward(self, video: Float[Tensor, "batch channels frames height width"]) -> Float[Tensor, "batch dim"]:
        """Features."""
        return self.maps(video).mean((2, 3, 4))

    def maps(self, video: Float[Tensor, "batch channels frames height width"]) -> Tensor:
        """What is averaged: [B, dim, T, H', W'], as many frames as were given."""
        return self.stages(video)[-1]

    def stages(self, video: Float[Tensor, "batch channels frames height width"]) -> list[Tensor]:
        """What leaves each stage [B, C, T, H', W'], as many frames as were given."""
        # Convolutions of few channels take a third less where a place's channels lie together.
        x = F.relu(self.stem_norm(self.stem(video.contiguous(memory_format=torch.channels_last_3d))))
        if self.config.pooled:
            x = F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
        made, blocks = [], iter(self.blocks)
        for count in self.config.blocks:
            for block in islice(blocks, count):
                x = block(x)
            made.append(x)
        return made

    def flops(self, size: Size) -> Flops:
        """Of one clip of (frames, height, width)."""
        return self.costs(size)[0]

    def costs(self, size: Size) -> tuple[Flops, Size]:
        """The operations of one clip of (frames, height, width), and what these are in its maps."""
        size = _strided(size, self.config.stem_stride)
        # What the first layer reads is data.
        total = convolution(self.stem, math.prod(size)).on_data
        size = _strided(size, 2) if self.config.pooled else size
        for block in self.blocks:
            assert isinstance(block, Block)
            cost, size = block.flops(size)
            total += cost
        return total, size


def _conv(channels: int, out: int, kernel: Sequence[int], stride: int = 1) -> nn.Conv3d:
    time, height, width = kernel
    sides = (time // 2, height // 2, width // 2)
    conv = nn.Conv3d(channels, out, (time, height, width), (1, stride, stride), sides, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


def _strided(size: Size, stride: int) -> Size:
    frames, height, width = size
    return frames, -(-height // stride), -(-width // stride)
